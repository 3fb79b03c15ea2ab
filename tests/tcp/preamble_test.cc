#include "engine/tcp/preamble.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using wire::PreambleStatus;

constexpr const char* kPeer = "192.0.2.9:77";

class PreambleTest : public testing::TestWithParam<Family> {
 protected:
  Status IntroduceAgainst(const Bytes& reply) {
    SendBytes(sockets_.destination.get(), reply);
    return Introduce(sockets_.source.get(), introduction_, kPeer, milliseconds(200));
  }
  Result<LaneIntroduction> ReadAgainst(const Bytes& preamble) {
    SendBytes(sockets_.source.get(), preamble);
    return ReadIntroduction(sockets_.destination.get(), kPeer, milliseconds(200));
  }
  static wire::PreambleReply Reply(PreambleStatus status) {
    return {wire::kMagic, wire::kWireVersion, static_cast<uint16_t>(status), 0};
  }
  wire::Preamble HonestPreamble() {
    return {
        wire::kMagic,           wire::kWireVersion, static_cast<uint8_t>(LaneKind::kBulk), 0, 3, 9,
        introduction_.migration};
  }

  SocketPair sockets_ = Connect(GetParam());
  LaneIntroduction introduction_{LaneKind::kBulk, 3, 9, {1, 2, 3}};
};
INSTANTIATE_TEST_SUITE_P(Families, PreambleTest, testing::Values(Family::kV4, Family::kV6));

TEST_P(PreambleTest, BothSidesAgreeOnLaneStreamGenerationAndMigration) {
  std::thread destination([&] {
    const auto read = ReadIntroduction(sockets_.destination.get(), kPeer);
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->lane, introduction_.lane);
    EXPECT_EQ(read->stream, introduction_.stream);
    EXPECT_EQ(read->generation, introduction_.generation);
    EXPECT_EQ(read->migration, introduction_.migration);
    EXPECT_TRUE(AnswerIntroduction(sockets_.destination.get(), PreambleStatus::kAccepted, kPeer)
                    .has_value());
  });
  EXPECT_TRUE(Introduce(sockets_.source.get(), introduction_, kPeer).has_value());
  destination.join();
}

TEST_P(PreambleTest, EveryRefusalSaysWhyAndByWhom) {
  const std::pair<PreambleStatus, const char*> refusals[] = {
      {PreambleStatus::kBusy, "busy with another migration"},
      {PreambleStatus::kVersionMismatch, "install the same faultline"},
      {PreambleStatus::kUnknownMigration, "does not know this migration"},
      {PreambleStatus::kStaleGeneration, "replaced by a newer connection"},
  };
  for (const auto& [status, words] : refusals) {
    const Status introduced = IntroduceAgainst(BytesOf(Reply(status)));
    ASSERT_FALSE(introduced.has_value());
    EXPECT_EQ(introduced.error().kind, ErrorKind::kRefused);
    EXPECT_NE(introduced.error().message.find(words), std::string::npos);
    EXPECT_NE(introduced.error().message.find(kPeer), std::string::npos);
  }
}

TEST_P(PreambleTest, AnAnswerInAnotherProtocolIsCalledThat) {
  for (const char* line : {"SSH-2.0-OpenSSH_9.2p1\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"}) {
    sockets_ = Connect(GetParam());
    const Status introduced = IntroduceAgainst(BytesOf(std::string(line)));
    ASSERT_FALSE(introduced.has_value());
    EXPECT_NE(introduced.error().message.find("speaks another protocol"), std::string::npos);
  }
}

TEST_P(PreambleTest, AnAnswerWithAnUnknownStatusIsAnotherProtocol) {
  EXPECT_FALSE(IntroduceAgainst(BytesOf(Reply(PreambleStatus::kInvalid))).has_value());
  sockets_ = Connect(GetParam());
  EXPECT_FALSE(IntroduceAgainst(BytesOf(Reply(static_cast<PreambleStatus>(999)))).has_value());
}

TEST_P(PreambleTest, NoAnswerIsATimeout) {
  const Status introduced = IntroduceAgainst({});
  ASSERT_FALSE(introduced.has_value());
  EXPECT_EQ(introduced.error().kind, ErrorKind::kTimeout);
}

TEST_P(PreambleTest, AGreetingInAnotherProtocolIsKnownByItsFirstBytes) {
  const auto read = ReadAgainst(BytesOf(std::string("GET / HTTP/1.0\r\n\r\n")));
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find("speaks another protocol"), std::string::npos);
}

TEST_P(PreambleTest, MegabytesOfGarbageAreNotRead) {
  std::thread flood([&] { SendBytes(sockets_.source.get(), Bytes(1 << 20, std::byte{0x77})); });
  EXPECT_FALSE(ReadIntroduction(sockets_.destination.get(), kPeer).has_value());
  sockets_.destination.Reset();
  flood.join();
}

TEST_P(PreambleTest, AnotherVersionIsToldSoAndReported) {
  wire::Preamble preamble = HonestPreamble();
  preamble.version = wire::kWireVersion + 1;
  const auto read = ReadAgainst(BytesOf(preamble));
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find(fmt::format("version {}", preamble.version)),
            std::string::npos);
  EXPECT_EQ(ReadBytes(sockets_.source.get(), sizeof(wire::PreambleReply)),
            BytesOf(Reply(PreambleStatus::kVersionMismatch)));
}

TEST_P(PreambleTest, AMalformedGreetingIsRefused) {
  using Lie = void (*)(wire::Preamble&);
  const Lie lies[] = {
      [](wire::Preamble& p) { p.lane = 0; },
      [](wire::Preamble& p) { p.lane = 4; },
      [](wire::Preamble& p) { p.reserved = 1; },
      [](wire::Preamble& p) { p.stream = wire::kBulkStreamsMax; },
      [](wire::Preamble& p) { p.generation = 0; },
      [](wire::Preamble& p) { p.lane = static_cast<uint8_t>(LaneKind::kControl); },
      [](wire::Preamble& p) {
        p.lane = static_cast<uint8_t>(LaneKind::kUrgent);
        p.stream = wire::kUrgentLanesMax;
      },
  };
  for (const Lie lie : lies) {
    sockets_ = Connect(GetParam());
    wire::Preamble preamble = HonestPreamble();
    lie(preamble);
    EXPECT_FALSE(ReadAgainst(BytesOf(preamble)).has_value());
  }
}

TEST_P(PreambleTest, TheEndAtEveryByteIsAnError) {
  const Bytes whole = BytesOf(HonestPreamble());
  for (size_t length = 0; length < whole.size(); ++length) {
    sockets_ = Connect(GetParam());
    SendBytes(sockets_.source.get(), std::span(whole).first(length));
    sockets_.source.Reset();
    EXPECT_FALSE(ReadIntroduction(sockets_.destination.get(), kPeer).has_value()) << length;
  }
}

TEST_P(PreambleTest, WhatFollowsTheGreetingIsLeftInTheSocket) {
  const std::string next = "the next message";
  ASSERT_TRUE(ReadAgainst(Joined({BytesOf(HonestPreamble()), BytesOf(next)})).has_value());
  EXPECT_EQ(ReadBytes(sockets_.destination.get(), next.size()), BytesOf(next));
}

}  // namespace
}  // namespace faultline::test
