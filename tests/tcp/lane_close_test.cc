// The price of landing in place: after Close() not a byte lands any more, whatever the peer does.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/core/overtakable_landing.h"
#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

class LaneClose : public LaneToPeer {};
INSTANTIATE_TEST_SUITE_P(Lanes, LaneClose, EveryLane(), NameOf);

constexpr PageRun kLongRun{PageIndex(0), PageCount(64)};

/// A source that answers one run slowly, in pieces that end anywhere, until it is told to stop.
class SlowSource {
 public:
  explicit SlowSource(int fd) : thread_([this, fd] { Run(fd); }) {}
  ~SlowSource() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Run(int fd) {
    SendBytes(fd, BytesOf(HonestReply(kLongRun, 1)));
    const Bytes piece(1000, std::byte{0x5C});
    while (!stop_) {
      SendBytes(fd, piece);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_P(LaneClose, InMidPayloadNotAByteLandsAfterwards) {
  lane_->Post(kLongRun);
  const SlowSource source(peer_.get());
  ASSERT_TRUE(lane_->PumpUntilPages(3));
  // Leaves a receive in the kernel, and bytes that wait for it in the socket.
  lane_->reactor().Wait(Nanos::zero());
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  lane_->channel().Close();
  const uint64_t before = lane_->ram().Hash();
  // The reactor serves on, for the next lane; a receive left behind would land now.
  for (int round = 0; round < 3; ++round) lane_->reactor().Wait(std::chrono::milliseconds(10));
  EXPECT_EQ(lane_->ram().Hash(), before);
  ASSERT_FALSE(lane_->channel().Unanswered().empty());
  EXPECT_EQ(lane_->channel().Unanswered()[0].first, PageIndex(lane_->pages_arrived()));
}

/// What has begun can be overtaken again, or be given back; what was reaped cannot.
TEST_P(LaneClose, GivesUpWhatHadBegunToLand) {
  auto [preference, family] = GetParam();
  SocketPair sockets = Connect(family);
  GuestRam ram(SmallGeometry());
  std::vector<Ledger::Cell> cells(SmallGeometry().page_count().value());
  Ledger ledger(cells);
  OvertakableLanding area(std::make_unique<AliasLanding>(ram.window()), ledger);
  auto reactor = MakeReactor(preference).value();
  auto lane = reactor->OpenLane(std::move(sockets.destination), area);
  constexpr PageRun kNext{PageIndex(64), PageCount(64)};
  for (const PageRun& run : {kLongRun, kNext}) {
    ASSERT_EQ(ledger.ClaimPrefix(run, Ledger::Claim::kOvertakable), run);
    lane->Post(run);
  }
  SendBytes(sockets.source.get(),
            Joined({BytesOf(HonestReply(kLongRun, 1)), Bytes(3 * 4096 + 100, std::byte{1})}));
  uint64_t reaped = 0;
  std::array<Arrival, 4> arrivals;
  while (reaped < 3) {
    reactor->Wait(std::chrono::seconds(1));
    const size_t count = lane->Reap(arrivals);
    for (size_t i = 0; i < count; ++i) reaped += arrivals[i].run.count.value();
  }
  ASSERT_FALSE(ledger.OnFault(PageIndex(5), true).overtook) << "it has begun";
  lane->Close();
  EXPECT_EQ(ledger.BeginLanding(kLongRun), 0b111U);
  EXPECT_EQ(ledger.BeginLanding(kNext), 0U);
}

TEST_P(LaneClose, WhatWasNotReapedIsUnanswered) {
  lane_->Post({PageIndex(0), PageCount(1)});
  SendBytes(peer_.get(), Joined({BytesOf(HonestReply({PageIndex(0), PageCount(1)}, 1)),
                                 Bytes(4096, std::byte{1})}));
  while (!lane_->reactor().Wait(std::chrono::seconds(5)).Has(ReadyToken::kLane)) {
  }
  lane_->channel().Close();
  std::array<Arrival, 4> arrivals;
  EXPECT_EQ(lane_->channel().Reap(arrivals), 0U);
  ASSERT_EQ(lane_->channel().Unanswered().size(), 1U);
  EXPECT_EQ(lane_->channel().Health(), LaneHealth::kBroken);
}

TEST_P(LaneClose, OfAFreshLaneIsQuietAndThePeerIsTold) {
  lane_->channel().Close();
  EXPECT_TRUE(lane_->channel().Unanswered().empty());
  EXPECT_TRUE(IsClosedByPeer(peer_.get()));
}

TEST_P(LaneClose, TwiceIsTheSameAsOnce) {
  lane_->Post(kLongRun);
  lane_->channel().Close();
  lane_->channel().Close();
  EXPECT_EQ(lane_->channel().Unanswered().size(), 1U);
}

TEST_P(LaneClose, WithRequestsThatNobodyReadsIsQuiet) {
  for (uint64_t i = 0; i < 256; ++i) lane_->Post({PageIndex(i), PageCount(1)});
  lane_->reactor().Wait(Nanos::zero());
  lane_->channel().Close();
  EXPECT_EQ(lane_->channel().Unanswered().size(), 256U);
}

TEST_P(LaneClose, AfterTheLanesThreadHasEndedIsQuiet) {
  lane_->Post(kLongRun);
  const SlowSource source(peer_.get());
  std::thread owner([&] {
    ASSERT_TRUE(lane_->PumpUntilPages(1));
    lane_->reactor().Wait(Nanos::zero());
  });
  owner.join();
  lane_->channel().Close();
  const uint64_t before = lane_->ram().Hash();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(lane_->ram().Hash(), before);
}

}  // namespace
}  // namespace faultline::test
