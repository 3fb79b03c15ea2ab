#include "engine/core/pusher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/unit/fakes.h"

namespace faultline::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Nanos kTimeout{1'000'000};
constexpr uint64_t kRunBytes = 64 * 4096;

class PusherTest : public ::testing::Test {
 protected:
  std::unique_ptr<Pusher> Start(PusherLimits limits) {
    auto pusher = std::make_unique<Pusher>(bench_.Parts(), order_, reactor_, limits);
    pusher->SetLane(std::make_unique<ScriptedLane>(lane_));
    return pusher;
  }
  /// The lane has brought everything that was posted since the last time.
  void Arrive() {
    for (const PageRun& run : lane_.posted) lane_.arrivals.push_back({run});
    lane_.posted.clear();
    lane_.room = 4;
  }

  Bench bench_{640};
  SequentialOrder order_{bench_.geometry};
  ScriptedReactor reactor_;
  LaneScript lane_;
};

TEST_F(PusherTest, FillsTheWindowAndNoMore) {
  const auto pusher = Start({ByteCount(2 * kRunBytes)});
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(0, 64), Pages(64, 64)));
  EXPECT_EQ(pusher->in_flight(), ByteCount(2 * kRunBytes));
  EXPECT_EQ(reactor_.last_timeout, kTimeout);
}

TEST_F(PusherTest, OneRunAlwaysGoesHoweverSmallTheWindow) {
  const auto pusher = Start({ByteCount(1)});
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(0, 64)));
}

TEST_F(PusherTest, AnArrivalMakesRoomForTheNext) {
  const auto pusher = Start({ByteCount(kRunBytes)});
  pusher->Step(kTimeout);
  Arrive();
  pusher->Step(kTimeout);
  EXPECT_EQ(pusher->in_flight(), ByteCount(0));
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(64, 64)));
}

TEST_F(PusherTest, TheLanesRoomBoundsItToo) {
  lane_.room = 1;
  const auto pusher = Start({ByteCount(1 << 30)});
  pusher->Step(kTimeout);
  EXPECT_EQ(lane_.posted.size(), 1u);
}

TEST_F(PusherTest, AsksOnlyForWhatIsAbsent) {
  bench_.ledger.ClaimPrefix(Pages(0, 3));
  bench_.ledger.ClaimPrefix(Pages(10, 60));
  const auto pusher = Start({ByteCount(1 << 30)});
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted,
              ElementsAre(Pages(3, 7), Pages(70, 58), Pages(128, 64), Pages(192, 64)));
}

TEST_F(PusherTest, WhatAFaultHasOvertakenIsNotPlacedAgain) {
  const auto pusher = Start({.window_bytes = ByteCount(kRunBytes), .overtakable = true});
  pusher->Step(kTimeout);
  ASSERT_TRUE(bench_.ledger.OnFault(PageIndex(9), true).overtook);
  ASSERT_EQ(bench_.ledger.BeginLanding(Pages(0, 64)), uint64_t{1} << 9);
  lane_.arrivals = {
      {Pages(0, 9)}, {.run = Pages(9, 1), .overtaken = true}, {.run = Pages(10, 54), .zero = true}};
  pusher->Step(kTimeout);
  EXPECT_EQ(pusher->in_flight(), ByteCount(0));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 0+9"));
  EXPECT_EQ(bench_.ledger.State(PageIndex(9)), PageState::kRequested) << "the fault's";
}

TEST_F(PusherTest, ALostLaneGivesBackWhatNobodyHasOvertaken) {
  const auto pusher = Start({.window_bytes = ByteCount(kRunBytes), .overtakable = true});
  pusher->Step(kTimeout);
  ASSERT_TRUE(bench_.ledger.OnFault(PageIndex(9), true).overtook);
  lane_.unanswered = {Pages(0, 64)};
  lane_.broken = true;
  EXPECT_EQ(pusher->Step(kTimeout), StepResult::kLaneLost);
  EXPECT_EQ(bench_.ledger.State(PageIndex(8)), PageState::kAbsent);
  EXPECT_EQ(bench_.ledger.State(PageIndex(9)), PageState::kRequested);
  EXPECT_EQ(bench_.ledger.State(PageIndex(10)), PageState::kAbsent);
}

TEST_F(PusherTest, HugePagesAreNeverOvertaken) {
  bench_.ledger.ClaimPrefix(Pages(0, 640));
  const auto pusher = Start({.window_bytes = ByteCount(1 << 30), .overtakable = true});
  pusher->Step(kTimeout);
  ASSERT_THAT(lane_.posted, ElementsAre(Pages(640, 1)));
  EXPECT_FALSE(bench_.ledger.OnFault(PageIndex(640), true).overtook);
}

TEST_F(PusherTest, APauseHoldsItBackAndSaysWhenToComeBack) {
  PushPause pause;
  const auto pusher = Start({ByteCount(kRunBytes), 0, &pause});
  pause.Until(bench_.clock.Now() + kTimeout / 4);
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted, IsEmpty());
  EXPECT_EQ(reactor_.last_timeout, kTimeout / 4);
  bench_.clock.now += kTimeout / 4;
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(0, 64)));
}

TEST_F(PusherTest, WhatTheGuestNeedsFirstWaitsForNoPause) {
  PushPause pause;
  pause.Until(bench_.clock.Now() + kTimeout);
  LeadingOrder leading(bench_.geometry, order_);
  leading.Put(std::vector{Pages(100, 2), Pages(300, 1)});
  Pusher pusher(bench_.Parts(), leading, reactor_, {ByteCount(4 * kRunBytes), 0, &pause});
  pusher.SetLane(std::make_unique<ScriptedLane>(lane_));
  pusher.Step(kTimeout);
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(100, 2), Pages(300, 1)));
}

TEST_F(PusherTest, WhatComesDuringThePauseIsMappedAndTheRestIsLeftToItsBlock) {
  RetiredBlocks blocks(bench_.geometry, bench_.ledger, bench_.placer, PageCount(256));
  Landing::Parts parts = bench_.Parts();
  parts.blocks = &blocks;
  PushPause pause;
  pause.Until(bench_.clock.Now() + kTimeout);
  LeadingOrder leading(bench_.geometry, order_);
  leading.Put(std::vector{Pages(100, 2)});
  Pusher pusher(parts, leading, reactor_, {ByteCount(kRunBytes), 0, &pause});
  pusher.SetLane(std::make_unique<ScriptedLane>(lane_));
  pusher.Step(kTimeout);
  Arrive();
  pusher.Step(kTimeout);
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 100+2"));
  bench_.clock.now += kTimeout;
  pusher.Step(kTimeout);
  Arrive();
  pusher.Step(kTimeout);
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 100+2"));
  EXPECT_EQ(bench_.ledger.State(PageIndex(0)), PageState::kHeld);
}

TEST_F(PusherTest, TheRateLimitPacesRequestsAndSaysWhenToComeBack) {
  const auto pusher = Start({ByteCount(kRunBytes), kRunBytes * 1000});
  pusher->Step(kTimeout);
  Arrive();
  pusher->Step(kTimeout);
  pusher->Step(kTimeout * 10);
  EXPECT_THAT(lane_.posted, IsEmpty());
  EXPECT_EQ(reactor_.last_timeout, Nanos(1'000'000));
  bench_.clock.now += Nanos(1'000'000);
  pusher->Step(kTimeout);
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(64, 64)));
}

TEST_F(PusherTest, BringsEveryPageOnceAndThenWaits) {
  const auto pusher = Start({ByteCount(1 << 30)});
  for (int step = 0; step < 40; ++step) {
    pusher->Step(kTimeout);
    Arrive();
  }
  EXPECT_EQ(bench_.ledger.missing(), PageCount(0));
  EXPECT_EQ(bench_.landing_metrics.data_pages.value(), 641u);
  EXPECT_EQ(reactor_.last_timeout, kTimeout);
}

TEST_F(PusherTest, WhatALostLaneOwedIsAskedForInTheNextRound) {
  auto pusher = Start({ByteCount(kRunBytes)});
  pusher->Step(kTimeout);
  lane_.broken = true;
  lane_.unanswered = lane_.posted;
  EXPECT_EQ(pusher->Step(kTimeout), StepResult::kLaneLost);
  EXPECT_TRUE(lane_.closed);
  EXPECT_EQ(pusher->in_flight(), ByteCount(0));

  lane_ = {};
  pusher->SetLane(std::make_unique<ScriptedLane>(lane_));
  for (int step = 0; step < 80; ++step) {
    pusher->Step(kTimeout);
    Arrive();
  }
  EXPECT_EQ(bench_.ledger.missing(), PageCount(0));
}

TEST_F(PusherTest, AWindowThatFollowsTheLinkAsksForRunsOfItsSize) {
  BulkWindow window(2);
  const auto pusher = Start({.window = &window});
  pusher->Step(kTimeout);
  const uint64_t pages = window.RunBytes().value() / 4096;
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(0, pages), Pages(pages, pages),
                                        Pages(2 * pages, pages), Pages(3 * pages, pages)));
}

TEST_F(PusherTest, WhatArrivesTellsTheWindowHowFastTheLinkIs) {
  BulkWindow window(1);
  const auto pusher = Start({.window = &window});
  for (int step = 0; step < 20; ++step) {
    pusher->Step(kTimeout);
    bench_.clock.now += Nanos(1'000'000);
    Arrive();
  }
  // Four runs of 16 KiB, the lane's room, each millisecond.
  EXPECT_NEAR(static_cast<double>(window.bandwidth()), 65.5e6, 8e6);
  EXPECT_LT(window.window(), ByteCount(512 * 1024));
}

TEST_F(PusherTest, AWindowOnceFullIsFilledInBatches) {
  BulkWindow window(2);
  for (int ms = 1; ms <= 1000; ++ms) {  // 1 GB/s
    window.run_trips().Note(Nanos(100'000));
    window.NoteArrived(ByteCount(1'000'000), ByteCount(0));
    window.Update(ms * Nanos(1'000'000), ByteCount(uint64_t{64} << 30));
  }
  bench_.clock.now = Nanos(1'000'000'000);
  const auto pusher = Start({.window = &window});
  pusher->Step(kTimeout);
  const std::vector<PageRun> first = lane_.posted;
  ASSERT_EQ(first.size(), 3U) << "and a fourth does not fit";
  ASSERT_GT(window.Slack(), ByteCount(kRunBytes));

  lane_.arrivals.push_back({first[0]});
  pusher->Step(kTimeout);
  pusher->Step(kTimeout);
  EXPECT_EQ(lane_.posted.size(), 3U) << "room for one, and not worth a request";
  lane_.arrivals.push_back({first[1]});
  pusher->Step(kTimeout);
  lane_.room = 4;
  pusher->Step(kTimeout);
  EXPECT_EQ(lane_.posted.size(), 5U);
}

TEST_F(PusherTest, ARoundThatBroughtNothingIsFollowedByAWait) {
  bench_.ledger.ClaimPrefix(Pages(0, 640));
  bench_.ledger.ClaimPrefix(Pages(640, 1));  // all on other lanes
  const auto pusher = Start({ByteCount(kRunBytes)});
  int waits = 0;
  for (int step = 0; step < 10; ++step) {
    pusher->Step(kTimeout);
    waits += reactor_.last_timeout == kTimeout ? 1 : 0;
  }
  EXPECT_EQ(waits, 10);
  EXPECT_THAT(lane_.posted, IsEmpty());
}

}  // namespace
}  // namespace faultline::test
