// The source's side of a page lane, under requests that no honest destination sends.
#include "engine/tcp/lane_server.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "engine/tcp/deadline.h"
#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

class LaneServerTest : public testing::TestWithParam<Family> {
 protected:
  LaneServerTest() { NewServer({}); }

  void NewServer(LaneServer::Options options) {
    SocketPair sockets = Connect(GetParam());
    client_ = std::move(sockets.destination);
    server_ = std::make_unique<LaneServer>(std::move(sockets.source), guest_.MakeServer(),
                                           std::move(options));
  }
  bool WaitForEnd() {
    const Nanos deadline = tcp::MonotonicNow() + std::chrono::seconds(5);
    while (!server_->ended() && tcp::MonotonicNow() < deadline) std::this_thread::yield();
    return server_->ended();
  }

  SourceGuest guest_{SmallGeometry(), Seed()};
  tcp::UniqueFd client_;
  std::unique_ptr<LaneServer> server_;
};
INSTANTIATE_TEST_SUITE_P(Lanes, LaneServerTest, testing::Values(Family::kV4, Family::kV6));

constexpr PageRun kRun{PageIndex(3), PageCount(2)};

TEST_P(LaneServerTest, MalformedRequestsEndTheLaneAndSayWhy) {
  using Lie = std::function<void(wire::PageRequest&)>;
  const Lie lies[] = {
      [](wire::PageRequest& r) { r.kind = 0; },
      [](wire::PageRequest& r) { r.kind = static_cast<uint32_t>(wire::PageMessage::kReply); },
      [](wire::PageRequest& r) { r.count = 0; },
      [](wire::PageRequest& r) { r.count = 65; },
      [](wire::PageRequest& r) { r.count = UINT32_MAX; },
      [](wire::PageRequest& r) { r.first = SmallGeometry().page_count().value(); },
      [](wire::PageRequest& r) { r.first = SmallGeometry().page_count().value() - 1; },
      [](wire::PageRequest& r) { r.first = UINT64_MAX; },
      [](wire::PageRequest& r) { r.id = 0; },
  };
  for (const Lie& lie : lies) {
    NewServer({});
    wire::PageRequest request = HonestRequest(kRun, 1);
    lie(request);
    SendBytes(client_.get(), BytesOf(request));
    EXPECT_TRUE(IsClosedByPeer(client_.get()));
    ASSERT_TRUE(WaitForEnd());
    EXPECT_NE(server_->reason().find("cannot be served"), std::string::npos);
  }
}

TEST_P(LaneServerTest, ALaneThatNobodyWaitsForKeepsOffTheCoresOfFaults) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "takes two processors";
  int first = 0;
  while (!CPU_ISSET(static_cast<size_t>(first), &all)) ++first;
  FaultCores cores;
  cores.Set(0, first);
  cpu_set_t seen;
  CPU_ZERO(&seen);
  LaneServer::Options options;
  options.fault_cores = &cores;
  options.on_end = [&seen] { EXPECT_EQ(::sched_getaffinity(0, sizeof seen, &seen), 0); };
  NewServer(std::move(options));
  SendBytes(client_.get(), BytesOf(HonestRequest(kRun, 1)));
  EXPECT_EQ(ReadBytes(client_.get(), sizeof(wire::PageReply)).size(), sizeof(wire::PageReply));
  server_->Stop();
  EXPECT_EQ(CPU_COUNT(&seen), CPU_COUNT(&all) - 1);
  EXPECT_FALSE(CPU_ISSET(static_cast<size_t>(first), &seen));
}

TEST_P(LaneServerTest, ARequestInSingleBytesIsAnswered) {
  const Bytes request = BytesOf(HonestRequest(kRun, 1));
  for (const std::byte byte : request) SendBytes(client_.get(), std::span(&byte, 1));
  const Bytes header = ReadBytes(client_.get(), sizeof(wire::PageReply));
  ASSERT_EQ(header.size(), sizeof(wire::PageReply));
  const Bytes expected = BytesOf(HonestReply(kRun, 1));
  EXPECT_TRUE(std::equal(header.begin(), header.begin() + 24, expected.begin()));
}

TEST_P(LaneServerTest, AReplySaysHowLongItTookToTurnTheRequestRound) {
  const auto begin = std::chrono::steady_clock::now();
  SendBytes(client_.get(), BytesOf(HonestRequest(kRun, 1)));
  const Bytes bytes = ReadBytes(client_.get(), sizeof(wire::PageReply));
  ASSERT_EQ(bytes.size(), sizeof(wire::PageReply));
  const Nanos round_trip = std::chrono::steady_clock::now() - begin;
  wire::PageReply reply;
  std::memcpy(&reply, bytes.data(), sizeof reply);
  EXPECT_GT(reply.turned_ns, 0U);
  EXPECT_LT(reply.turned_ns, static_cast<uint64_t>(round_trip.count()));
}

TEST_P(LaneServerTest, MoreRequestsThanOneReceiveTakesAreAllAnswered) {
  Bytes requests;
  for (uint64_t id = 1; id <= 200; ++id) {
    const Bytes request = BytesOf(HonestRequest({PageIndex(id), PageCount(1)}, id));
    requests.insert(requests.end(), request.begin(), request.end());
  }
  SendBytes(client_.get(), requests);
  for (uint64_t id = 1; id <= 200; ++id) {
    const Bytes bytes = ReadBytes(client_.get(), sizeof(wire::PageReply));
    ASSERT_EQ(bytes.size(), sizeof(wire::PageReply));
    wire::PageReply reply;
    std::memcpy(&reply, bytes.data(), sizeof reply);
    ASSERT_EQ(reply.id, id);
    ReadBytes(client_.get(), reply.data_pages == 0 ? 0 : 4096);
  }
}

TEST_P(LaneServerTest, RequestsThatComeTogetherAreAnsweredTogether) {
  const PageRun runs[] = {
      {PageIndex(0), PageCount(64)}, {PageIndex(80), PageCount(2)}, {PageIndex(100), PageCount(3)}};
  guest_.MarkAllPresent();
  Bytes requests;
  for (uint64_t id = 1; id <= 3; ++id) {
    const Bytes request = BytesOf(HonestRequest(runs[id - 1], id));
    requests.insert(requests.end(), request.begin(), request.end());
  }
  SendBytes(client_.get(), requests);
  const Bytes bytes = ReadBytes(client_.get(), 3 * sizeof(wire::PageReply));
  ASSERT_EQ(bytes.size(), 3 * sizeof(wire::PageReply));
  size_t data = 0;
  for (uint64_t id = 1; id <= 3; ++id) {
    wire::PageReply reply;
    std::memcpy(&reply, bytes.data() + (id - 1) * sizeof reply, sizeof reply);
    EXPECT_EQ(reply.id, id);
    EXPECT_EQ(reply.headers_behind, 3 - id);
    data += static_cast<size_t>(std::popcount(reply.data_pages)) * 4096;
  }
  EXPECT_EQ(ReadBytes(client_.get(), data).size(), data);
}

TEST_P(LaneServerTest, OnAnUrgentLaneEachAnswerComesAlone) {
  LaneServer::Options options;
  options.urgent = true;
  NewServer(std::move(options));
  guest_.MarkAllPresent();
  SendBytes(client_.get(),
            Joined({BytesOf(HonestRequest(kRun, 1)), BytesOf(HonestRequest(kRun, 2))}));
  for (int i = 0; i < 2; ++i) {
    wire::PageReply reply;
    const Bytes bytes = ReadBytes(client_.get(), sizeof reply);
    ASSERT_EQ(bytes.size(), sizeof reply);
    std::memcpy(&reply, bytes.data(), sizeof reply);
    EXPECT_EQ(reply.headers_behind, 0U);
    ReadBytes(client_.get(), static_cast<size_t>(std::popcount(reply.data_pages)) * 4096);
  }
}

TEST_P(LaneServerTest, AnUrgentLaneSaysWhenItLooksForTheNextRequestABulkLaneNeverDoes) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "takes two processors";
  constexpr PageRun kPage{PageIndex(0), PageCount(1)};
  guest_.MarkAllPresent();
  for (const bool urgent : {false, true}) {
    LaneServer::Options options;
    options.urgent = urgent;
    NewServer(std::move(options));
    uint64_t looked = 0;
    for (uint64_t id = 1; id <= 200; ++id) {
      SendBytes(client_.get(), BytesOf(HonestRequest(kPage, id)));
      wire::PageReply reply;
      const Bytes bytes = ReadBytes(client_.get(), sizeof reply);
      ASSERT_EQ(bytes.size(), sizeof reply);
      std::memcpy(&reply, bytes.data(), sizeof reply);
      ASSERT_LE(reply.looks, 1U);
      looked += reply.looks;
      ReadBytes(client_.get(), static_cast<size_t>(std::popcount(reply.data_pages)) * 4096);
    }
    EXPECT_EQ(looked > 0, urgent) << looked;
  }
}

TEST_P(LaneServerTest, ARefusedRequestBehindGoodOnesEndsTheLaneAfterTheirAnswers) {
  guest_.MarkAllPresent();
  wire::PageRequest lie = HonestRequest(kRun, 3);
  lie.count = 0;
  SendBytes(client_.get(), Joined({BytesOf(HonestRequest(kRun, 1)), BytesOf(HonestRequest(kRun, 2)),
                                   BytesOf(lie)}));
  std::array<wire::PageReply, 2> replies;
  const Bytes bytes = ReadBytes(client_.get(), sizeof replies);
  ASSERT_EQ(bytes.size(), sizeof replies);
  std::memcpy(&replies, bytes.data(), sizeof replies);
  EXPECT_EQ(replies[0].headers_behind, 1U);
  EXPECT_EQ(replies[1].headers_behind, 0U);
  const auto pages = static_cast<size_t>(std::popcount(replies[0].data_pages));
  EXPECT_EQ(ReadBytes(client_.get(), 2 * pages * 4096).size(), 2 * pages * 4096);
  EXPECT_TRUE(IsClosedByPeer(client_.get()));
  ASSERT_TRUE(WaitForEnd());
  EXPECT_NE(server_->reason().find("cannot be served"), std::string::npos);
}

TEST_P(LaneServerTest, ThePeersEndEndsItWithAReason) {
  client_.Reset();
  ASSERT_TRUE(WaitForEnd());
  EXPECT_EQ(server_->reason(), "the destination closed the lane");
}

TEST_P(LaneServerTest, HalfARequestAndTheEndIsAnEnd) {
  const Bytes request = BytesOf(HonestRequest(kRun, 1));
  SendBytes(client_.get(), std::span(request).first(11));
  client_.Reset();
  EXPECT_TRUE(WaitForEnd());
}

TEST_P(LaneServerTest, StopEndsAServerThatWaitsForARequest) {
  server_->Stop();
  ASSERT_TRUE(server_->ended());
  EXPECT_EQ(server_->reason(), "stopped");
}

TEST_P(LaneServerTest, StopEndsAServerThatWaitsForAPeerWhoDoesNotRead) {
  Bytes requests;
  for (uint64_t id = 1; id <= 2000; ++id) {
    const Bytes request = BytesOf(HonestRequest({PageIndex(0), PageCount(64)}, id));
    requests.insert(requests.end(), request.begin(), request.end());
  }
  SendBytes(client_.get(), requests);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  server_->Stop();
  EXPECT_TRUE(server_->ended());
}

TEST_P(LaneServerTest, TellsItsOwnerOnceThatItEnded) {
  std::atomic<int> told{0};
  LaneServer::Options options;
  options.urgent = true;
  options.on_end = [&] { ++told; };
  NewServer(std::move(options));
  client_.Reset();
  ASSERT_TRUE(WaitForEnd());
  server_->Stop();
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace faultline::test
