#include "engine/tcp/control_lane.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::FrameType;

class ControlLaneTest : public testing::TestWithParam<Family> {
 protected:
  Status ReceiveFails() {
    auto frame = lane_.Receive(seconds(5));
    EXPECT_FALSE(frame.has_value());
    return tl::make_unexpected(frame.error());
  }

  void ExpectFrame(FrameType type, const Bytes& body) {
    const auto frame = lane_.Receive(seconds(5));
    ASSERT_TRUE(frame.has_value()) << frame.error().message;
    EXPECT_EQ(frame->type, type);
    EXPECT_EQ(Copied(frame->body), body);
  }
  static Bytes Copied(std::span<const std::byte> body) { return {body.begin(), body.end()}; }

  SocketPair sockets_ = Connect(GetParam());
  tcp::UniqueFd raw_ = std::move(sockets_.source);
  ControlLane lane_{std::move(sockets_.destination), "192.0.2.9:77"};
};
INSTANTIATE_TEST_SUITE_P(Families, ControlLaneTest, testing::Values(Family::kV4, Family::kV6));

Bytes FrameBytes(uint32_t length, uint16_t type, uint16_t reserved, const Bytes& body) {
  return Joined({BytesOf(wire::FrameHeader{length, type, reserved}), body});
}

TEST_P(ControlLaneTest, FramesArriveWholeAndInOrder) {
  ControlLane other(std::move(raw_), "other");
  const Bytes big(wire::kFrameBytesMax, std::byte{0x42});
  std::thread sender([&] {
    EXPECT_TRUE(other.Send(FrameType::kHello, BytesOf(std::string("hello"))).has_value());
    EXPECT_TRUE(other.Send(FrameType::kDeviceState, big).has_value());
    EXPECT_TRUE(other.Send(FrameType::kStopped).has_value());
  });
  ExpectFrame(FrameType::kHello, BytesOf(std::string("hello")));
  ExpectFrame(FrameType::kDeviceState, big);
  ExpectFrame(FrameType::kStopped, {});
  sender.join();
  EXPECT_EQ(lane_.WireBytes(), other.WireBytes());
}

TEST_P(ControlLaneTest, SendersOnManyThreadsNeverMixTheirFrames) {
  ControlLane other(std::move(raw_), "other");
  constexpr int kFrames = 50;
  std::vector<std::thread> senders;
  for (int sender = 1; sender <= 4; ++sender) {
    senders.emplace_back([&, sender] {
      const Bytes body(static_cast<size_t>(sender) * 10'007, static_cast<std::byte>(sender));
      for (int i = 0; i < kFrames; ++i) {
        EXPECT_TRUE(other.Send(FrameType::kDeviceState, body).has_value());
      }
    });
  }
  for (int i = 0; i < 4 * kFrames; ++i) {
    const auto frame = lane_.Receive(seconds(5));
    ASSERT_TRUE(frame.has_value());
    const auto sender = static_cast<size_t>(frame->body.front());
    EXPECT_EQ(Copied(frame->body), Bytes(sender * 10'007, frame->body.front()));
  }
  for (std::thread& sender : senders) sender.join();
}

TEST_P(ControlLaneTest, AFrameInSingleBytesSurvivesTimeouts) {
  const Bytes bytes =
      FrameBytes(3, static_cast<uint16_t>(FrameType::kGo), 0, BytesOf(std::string("abc")));
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    SendBytes(raw_.get(), std::span(bytes).subspan(i, 1));
    const auto early = lane_.Receive(milliseconds(1));
    ASSERT_FALSE(early.has_value());
    EXPECT_EQ(early.error().kind, ErrorKind::kTimeout);
  }
  SendBytes(raw_.get(), std::span(bytes).last(1));
  const auto frame = lane_.Receive(seconds(5));
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->type, FrameType::kGo);
  EXPECT_EQ(Copied(frame->body), BytesOf(std::string("abc")));
}

TEST_P(ControlLaneTest, HostileHeadersBreakTheLane) {
  const Bytes hostile[] = {
      FrameBytes(0, 0, 0, {}),
      FrameBytes(0, wire::kFrameTypeLast + 1, 0, {}),
      FrameBytes(0, UINT16_MAX, 0, {}),
      FrameBytes(wire::kFrameBytesMax + 1, 1, 0, {}),
      FrameBytes(UINT32_MAX, 1, 0, {}),
      FrameBytes(0, 1, 1, {}),
      BytesOf(std::string("GET / HTTP/1.0\r\n\r\n")),
  };
  for (const Bytes& bytes : hostile) {
    SocketPair sockets = Connect(GetParam());
    ControlLane lane(std::move(sockets.destination), "192.0.2.9:77");
    SendBytes(sockets.source.get(), bytes);
    const auto frame = lane.Receive(seconds(5));
    ASSERT_FALSE(frame.has_value());
    EXPECT_EQ(frame.error().kind, ErrorKind::kPeer);
    EXPECT_NE(frame.error().message.find("192.0.2.9:77"), std::string::npos);
    EXPECT_FALSE(lane.Send(FrameType::kAbort).has_value());
    EXPECT_FALSE(lane.Receive(seconds(5)).has_value());
  }
}

TEST_P(ControlLaneTest, TheEndAtEveryByteOfAFrameIsAnErrorOfThePeer) {
  const Bytes whole = FrameBytes(2, 1, 0, BytesOf(std::string("ab")));
  for (size_t length = 0; length < whole.size(); ++length) {
    SocketPair sockets = Connect(GetParam());
    ControlLane lane(std::move(sockets.destination), "peer");
    SendBytes(sockets.source.get(), std::span(whole).first(length));
    sockets.source.Reset();
    const auto frame = lane.Receive(seconds(5));
    ASSERT_FALSE(frame.has_value());
    EXPECT_EQ(frame.error().kind, ErrorKind::kPeer);
  }
}

TEST_P(ControlLaneTest, ShutdownWakesAReceiverThatWaits) {
  std::thread other([&] {
    std::this_thread::sleep_for(milliseconds(30));
    lane_.Shutdown();
  });
  EXPECT_EQ(ReceiveFails().error().kind, ErrorKind::kPeer);
  other.join();
}

TEST_P(ControlLaneTest, SendingToAPeerThatHasGoneFailsAndNeverKills) {
  raw_.Reset();
  const Bytes body(wire::kFrameBytesMax);
  int sent = 0;
  while (lane_.Send(FrameType::kDeviceState, body).has_value() && sent < 1000) ++sent;
  EXPECT_LT(sent, 1000);
}

}  // namespace
}  // namespace faultline::test
