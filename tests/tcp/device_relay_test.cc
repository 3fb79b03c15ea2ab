// Device state between two socket pairs, over a real control connection: what QEMU does.
#include "engine/tcp/device_relay.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// One side: a socket pair whose outer end stands for QEMU, a relay, a lane and its receiver.
class Side {
 public:
  explicit Side(tcp::UniqueFd control) : lane_(std::move(control), "the other side") {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    qemu_ = tcp::UniqueFd(ends[0]);
    relay_ = *DeviceRelay::Create(tcp::UniqueFd(ends[1]), lane_);
    receiver_ = std::thread([this] { Receive(); });
  }
  ~Side() {
    lane_.Shutdown();
    receiver_.join();
  }

  [[nodiscard]] int qemu() const { return qemu_.get(); }
  void CloseQemu() { qemu_.Reset(); }
  void HalfCloseQemu() { ::shutdown(qemu_.get(), SHUT_WR); }
  DeviceRelay& relay() { return *relay_; }
  ControlLane& lane() { return lane_; }

 private:
  void Receive() {
    while (true) {
      auto frame = lane_.Receive(seconds(30));
      if (!frame.has_value()) return;
      (void)relay_->Deliver(frame->body);
    }
  }

  ControlLane lane_;
  tcp::UniqueFd qemu_;
  std::unique_ptr<DeviceRelay> relay_;
  std::thread receiver_;
};

class DeviceRelayTest : public testing::TestWithParam<Family> {
 protected:
  SocketPair sockets_ = Connect(GetParam());
  Side source_{std::move(sockets_.source)};
  Side destination_{std::move(sockets_.destination)};
};
INSTANTIATE_TEST_SUITE_P(Families, DeviceRelayTest, testing::Values(Family::kV4, Family::kV6));

Bytes RandomBytes(size_t size, uint64_t seed) {
  Random random(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

TEST_P(DeviceRelayTest, BothDirectionsCarryEveryByteAndEndOnTheirOwn) {
  const uint64_t seed = Seed();
  const Bytes state = RandomBytes(3'000'001, seed);
  const Bytes answer = RandomBytes(1'003, seed + 1);
  std::thread writer([&] {
    SendBytes(source_.qemu(), state);
    source_.HalfCloseQemu();
  });
  EXPECT_EQ(ReadBytes(destination_.qemu(), state.size()), state);
  writer.join();
  EXPECT_TRUE(IsClosedByPeer(destination_.qemu()));
  // The stream has ended; the return path still lives.
  EXPECT_FALSE(source_.relay().done());
  SendBytes(destination_.qemu(), answer);
  EXPECT_EQ(ReadBytes(source_.qemu(), answer.size()), answer);
  destination_.HalfCloseQemu();
  EXPECT_TRUE(IsClosedByPeer(source_.qemu()));
  EXPECT_TRUE(source_.relay().Wait(seconds(5)).has_value());
  EXPECT_TRUE(destination_.relay().Wait(seconds(5)).has_value());
  EXPECT_EQ(source_.relay().BytesCarried().value(), state.size() + answer.size());
  EXPECT_EQ(destination_.relay().BytesCarried(), source_.relay().BytesCarried());
}

TEST_P(DeviceRelayTest, AQemuThatDoesNotReadHoldsUpNobodyOnTheControlLane) {
  const Bytes state = RandomBytes(8 * 1024 * 1024, Seed());
  std::thread writer([&] { SendBytes(source_.qemu(), state); });
  // All of it leaves although nobody reads at the other end: it is queued there.
  writer.join();
  EXPECT_TRUE(destination_.lane().Send(wire::FrameType::kDeviceState, {}).has_value());
  EXPECT_TRUE(IsClosedByPeer(source_.qemu()));
  EXPECT_EQ(ReadBytes(destination_.qemu(), state.size()), state);
}

TEST_P(DeviceRelayTest, AQemuThatIsGoneEndsBothSides) {
  SendBytes(source_.qemu(), Bytes(100'000));
  destination_.CloseQemu();
  EXPECT_TRUE(IsClosedByPeer(source_.qemu()));
  source_.CloseQemu();
  EXPECT_TRUE(source_.relay().Wait(seconds(5)).has_value());
  EXPECT_TRUE(destination_.relay().Wait(seconds(5)).has_value());
}

TEST_P(DeviceRelayTest, ALostControlLaneFailsTheRelay) {
  source_.lane().Shutdown();
  SendBytes(source_.qemu(), Bytes(10));
  const Status status = source_.relay().Wait(seconds(5));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kPeer);
}

TEST_P(DeviceRelayTest, StopEndsAnIdleRelay) {
  EXPECT_EQ(source_.relay().Wait(milliseconds(10)).error().kind, ErrorKind::kTimeout);
  source_.relay().Stop();
  EXPECT_TRUE(source_.relay().done());
  EXPECT_TRUE(IsClosedByPeer(source_.qemu()));
}

TEST_P(DeviceRelayTest, BytesAfterTheEndAreRefused) {
  EXPECT_TRUE(source_.relay().Deliver({}).has_value());
  EXPECT_FALSE(source_.relay().Deliver(Bytes(1)).has_value());
}

TEST_P(DeviceRelayTest, AQueueThatIsFullIsAnErrorAndNotAWait) {
  const Bytes piece(wire::kFrameBytesMax);
  size_t delivered = 0;
  Status status;
  while (status.has_value() && delivered < 2 * DeviceRelay::kQueueBytesMax) {
    status = source_.relay().Deliver(piece);
    delivered += piece.size();
  }
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("unread"), std::string::npos);
}

}  // namespace
}  // namespace faultline::test
