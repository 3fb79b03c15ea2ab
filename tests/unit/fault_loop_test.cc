#include "engine/core/fault_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fakes.h"

namespace faultline::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr Nanos kTimeout{1'000'000};

class FaultLoopTest : public ::testing::Test {
 protected:
  void SetLane(LaneScript& script) { loop_.SetLane(std::make_unique<ScriptedLane>(script)); }
  void Step(std::vector<Fault> faults, std::vector<PageRun> removed = {}) {
    faults_.faults = std::move(faults);
    faults_.removed = std::move(removed);
    reactor_.ready = {};
    reactor_.ready.Add(ReadyToken::kFaults);
    last_ = loop_.Step(kTimeout);
  }
  [[nodiscard]] const FaultCounters& counters() const { return bench_.fault_metrics.faults; }

  Bench bench_;
  ScriptedFaults faults_;
  ScriptedReactor reactor_;
  FaultLoop loop_{bench_.Parts(), faults_, reactor_};
  LaneScript lane_;
  StepResult last_ = StepResult::kContinue;
};

TEST_F(FaultLoopTest, AFaultIsAskedForPlacedAndCounted) {
  SetLane(lane_);
  Step({{PageIndex(5)}});
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(5, 1)));
  lane_.arrivals.push_back({Pages(5, 1)});
  Step({});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 5+1"));
  EXPECT_EQ(counters().count.value(), 1u);
  EXPECT_EQ(counters().from_urgent.value(), 1u);
  EXPECT_EQ(bench_.fault_metrics.total.count(), 1u);
  EXPECT_EQ(bench_.waiters->size(), 0u);
}

TEST_F(FaultLoopTest, WhatABatchAsksForLeavesAtOnceAndTogether) {
  SetLane(lane_);
  Step({{PageIndex(5)}, {PageIndex(9)}, {PageIndex(11)}});
  EXPECT_THAT(lane_.sent_at, ElementsAre(3u));
  Step({});
  EXPECT_THAT(lane_.sent_at, ElementsAre(3u));
  EXPECT_EQ(bench_.fault_metrics.request.count(), 3u);
}

TEST_F(FaultLoopTest, ASecondFaultOnTheSamePageAsksNobody) {
  SetLane(lane_);
  Step({{PageIndex(5)}});
  Step({{PageIndex(5)}});
  EXPECT_EQ(lane_.posted.size(), 1u);
  EXPECT_EQ(counters().joined_bulk.value(), 1u);
}

TEST_F(FaultLoopTest, WhatThePusherHasOnlyAskedForIsOvertaken) {
  SetLane(lane_);
  bench_.ledger.ClaimPrefix(Pages(4, 8), Ledger::Claim::kOvertakable);
  Step({{PageIndex(5)}});
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(5, 1)));
  EXPECT_EQ(counters().overtook.value(), 1u);
  EXPECT_EQ(bench_.ledger.BeginLanding(Pages(4, 8)), 0b10u);
  lane_.arrivals.push_back({Pages(5, 1)});
  Step({});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 5+1"));
  EXPECT_EQ(bench_.fault_metrics.fetch.count(), 1u);
}

TEST_F(FaultLoopTest, WhatIsLandingForThePusherIsJoined) {
  SetLane(lane_);
  bench_.ledger.ClaimPrefix(Pages(4, 8), Ledger::Claim::kOvertakable);
  bench_.ledger.BeginLanding(Pages(4, 8));
  Step({{PageIndex(5)}});
  EXPECT_THAT(lane_.posted, IsEmpty());
  EXPECT_EQ(counters().joined_bulk.value(), 1u);
}

TEST_F(FaultLoopTest, ADeadLaneOvertakesNothing) {
  SetLane(lane_);
  lane_.broken = true;
  bench_.ledger.ClaimPrefix(Pages(4, 8), Ledger::Claim::kOvertakable);
  Step({{PageIndex(5)}});
  EXPECT_EQ(last_, StepResult::kLaneLost);
  EXPECT_EQ(counters().joined_bulk.value(), 1u);
  EXPECT_EQ(bench_.ledger.BeginLanding(Pages(4, 8)), 0u) << "the bulk lane's, still";
}

TEST_F(FaultLoopTest, AFullLaneOvertakesNothing) {
  SetLane(lane_);
  lane_.room = 0;
  bench_.ledger.ClaimPrefix(Pages(4, 8), Ledger::Claim::kOvertakable);
  Step({{PageIndex(5)}});
  EXPECT_EQ(counters().joined_bulk.value(), 1u);
  EXPECT_EQ(bench_.ledger.BeginLanding(Pages(4, 8)), 0u);
}

TEST_F(FaultLoopTest, WhatIsThereIsMappedAtOnce) {
  bench_.ledger.ClaimPrefix(Pages(5, 1));
  bench_.ledger.Apply(PageIndex(5), PageEvent::kLand);
  Step({{PageIndex(5)}});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 5+1"));
  EXPECT_EQ(counters().already_held.value(), 1u);
}

TEST_F(FaultLoopTest, AFaultOnAHeldPageBringsWhatIsHeldAroundIt) {
  RetiredBlocks blocks(bench_.geometry, bench_.ledger, bench_.placer, PageCount(32));
  Landing::Parts parts = bench_.Parts();
  parts.blocks = &blocks;
  FaultLoop loop(parts, faults_, reactor_);
  bench_.ledger.ClaimPrefix(Pages(10, 12));
  for (uint64_t page = 10; page < 20; ++page)
    bench_.ledger.Apply(PageIndex(page), PageEvent::kLand);
  faults_.faults = {{PageIndex(12)}};
  reactor_.ready.Add(ReadyToken::kFaults);
  loop.Step(kTimeout);
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 12+1", "held 10+2", "held 13+3"));
}

TEST_F(FaultLoopTest, AHoleAndAGivenUpPageAreZero) {
  bench_.ledger.Apply(PageIndex(5), PageEvent::kFoundEmpty);
  Step({{PageIndex(5)}, {PageIndex(6)}}, {Pages(6, 1)});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("zero 5+1", "zero 6+1"));
  EXPECT_EQ(counters().zero.value(), 2u);
}

TEST_F(FaultLoopTest, AFaultOnAMappedPageIsMappedAgain) {
  bench_.ledger.Apply(PageIndex(5), PageEvent::kFoundEmpty);
  Step({{PageIndex(5)}});
  Step({{PageIndex(5)}});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("zero 5+1", "again 5+1"));
  EXPECT_EQ(counters().again.value(), 1u);
}

TEST_F(FaultLoopTest, WithoutALaneWaitersAreListedAndAskedForByTheNext) {
  Step({{PageIndex(5)}, {PageIndex(9)}});
  EXPECT_EQ(bench_.waiters->size(), 2u);
  SetLane(lane_);
  EXPECT_THAT(lane_.posted, UnorderedElementsAre(Pages(5, 1), Pages(9, 1)));
  EXPECT_EQ(counters().from_urgent.value(), 2u);
}

TEST_F(FaultLoopTest, WhatALaneHasNoRoomForFollowsWhenItHas) {
  lane_.room = 1;
  SetLane(lane_);
  Step({{PageIndex(5)}, {PageIndex(9)}});
  EXPECT_EQ(lane_.posted.size(), 1u);
  lane_.arrivals.push_back({Pages(5, 1)});
  Step({});  // no other may follow for long
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(5, 1), Pages(9, 1)));
}

TEST_F(FaultLoopTest, WithoutALaneEveryFaultIsRungForToThoseThatHaveOne) {
  int rings = 0;
  bench_.waiters->OnUnasked([&] { ++rings; });
  Step({{PageIndex(5)}});
  EXPECT_EQ(rings, 1);
  Step({{PageIndex(9)}});
  EXPECT_EQ(rings, 2);
  EXPECT_TRUE(bench_.waiters->TakeUnasked());
}

TEST_F(FaultLoopTest, ABrokenLaneIsClosedAndWhatItOwedIsAskedForAgain) {
  SetLane(lane_);
  Step({{PageIndex(5)}});
  lane_.broken = true;
  lane_.unanswered = {Pages(5, 1)};
  Step({});
  EXPECT_EQ(last_, StepResult::kLaneLost);
  EXPECT_TRUE(lane_.closed);
  EXPECT_FALSE(loop_.has_lane());
  EXPECT_EQ(loop_.wire_bytes(), ByteCount(10));
  LaneScript next;
  SetLane(next);
  EXPECT_THAT(next.posted, ElementsAre(Pages(5, 1)));
}

TEST_F(FaultLoopTest, WhatThePushersLaneLostIsAskedForHere) {
  SetLane(lane_);
  bench_.ledger.ClaimPrefix(Pages(5, 1));
  Step({{PageIndex(5)}});
  EXPECT_THAT(lane_.posted, IsEmpty());
  Landing(bench_.Parts()).GiveBack(Pages(5, 1));
  Step({});
  EXPECT_THAT(lane_.posted, ElementsAre(Pages(5, 1)));
}

TEST_F(FaultLoopTest, AFullTableLetsTheThreadFaultAgain) {
  SetLane(lane_);
  for (uint64_t i = 0; i < WaiterTable::kSlots; ++i) {
    bench_.waiters->Add(PageIndex(1000 + i), Nanos(0));
  }
  Step({{PageIndex(5)}});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("wake 5+1"));
  EXPECT_EQ(counters().count.value(), counters().again.value());
}

TEST_F(FaultLoopTest, AFullBufferIsReadAgainWithoutWaiting) {
  faults_.more = true;
  Step({});
  faults_.more = false;
  Step({});
  EXPECT_EQ(reactor_.last_timeout, Nanos(0));
  Step({});
  EXPECT_EQ(reactor_.last_timeout, kTimeout);
}

TEST_F(FaultLoopTest, WhileSomethingWaitsForARetryItSleepsOnlyShortly) {
  bench_.ledger.Apply(PageIndex(5), PageEvent::kFoundEmpty);
  bench_.placer.result = PlaceResult::kRetry;
  Step({{PageIndex(5)}});
  Step({});
  EXPECT_EQ(reactor_.last_timeout, Landing::kRetryPause);
}

TEST_F(FaultLoopTest, NothingReadyMeansNoRead) {
  loop_.Step(kTimeout);
  EXPECT_EQ(faults_.reads, 0);
}

TEST_F(FaultLoopTest, SaysWhenTheGuestIsGone) {
  faults_.gone = true;
  Step({});
  EXPECT_EQ(last_, StepResult::kGuestGone);
}

}  // namespace
}  // namespace faultline::test
