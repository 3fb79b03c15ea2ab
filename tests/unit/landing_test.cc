#include "engine/core/landing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fakes.h"

namespace faultline::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using enum PageState;

class LandingTest : public ::testing::Test {
 protected:
  void Fault(uint64_t page) {
    bench_.waiters->Add(PageIndex(page), bench_.clock.now);
    bench_.ledger.OnFault(PageIndex(page), false);
  }
  void Claim(PageRun run) { ASSERT_EQ(bench_.ledger.ClaimPrefix(run), run); }
  [[nodiscard]] PageState State(uint64_t page) const {
    return bench_.ledger.State(PageIndex(page));
  }

  Bench bench_;
  Landing landing_{bench_.Parts()};
};

TEST_F(LandingTest, ARunIsMappedInOneCall) {
  Claim(Pages(10, 8));
  landing_.Complete({Pages(10, 8)});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 10+8"));
  EXPECT_EQ(State(17), kMapped);
  EXPECT_EQ(bench_.landing_metrics.data_pages.value(), 8u);
}

TEST_F(LandingTest, WhoWaitsIsServedBeforeTheRestOfTheRun) {
  Fault(13);
  Claim(Pages(10, 8));
  landing_.Complete({Pages(10, 8)});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 13+1", "held 10+3", "held 14+4"));
  EXPECT_EQ(bench_.fault_metrics.total.count(), 1u);
}

TEST_F(LandingTest, WhatNobodyWaitsForIsLeftToItsBlockWhereThatIsWanted) {
  RetiredBlocks blocks(bench_.geometry, bench_.ledger, bench_.placer, PageCount(16));
  Landing::Parts parts = bench_.Parts();
  parts.blocks = &blocks;
  Landing landing(parts);
  landing.Defer(true);
  Fault(3);
  Claim(Pages(0, 16));
  landing.Complete({Pages(0, 8)});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 3+1"));
  EXPECT_EQ(State(2), kHeld);
  landing.Complete({Pages(8, 8), true});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 3+1", "retire 0+16"));
  Claim(Pages(256, 1));  // of no block
  landing.Complete({Pages(256, 1)});
  EXPECT_EQ(bench_.placer.calls.back(), "held 256+1");
}

TEST_F(LandingTest, AZeroPageIsMappedOnlyForWhoWaits) {
  Fault(11);
  Claim(Pages(10, 3));
  landing_.Complete({Pages(10, 3), true});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("zero 11+1"));
  EXPECT_EQ(State(10), kHole);
  EXPECT_EQ(State(11), kMapped);
}

TEST_F(LandingTest, ATouchedPageIsEmptiedBeforeItBecomesAHole) {
  bench_.ledger.MarkTouched(Pages(11, 2));
  Claim(Pages(10, 4));
  landing_.Complete({Pages(10, 4), true});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 11+2"));
}

TEST_F(LandingTest, WhatWasGivenUpWhileItLandedIsEmptiedAndStaysUnmapped) {
  Claim(Pages(10, 3));
  landing_.Remove(Pages(11, 1));
  landing_.Complete({Pages(10, 3)});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 11+1", "held 10+1", "held 12+1"));
  EXPECT_EQ(State(11), kReleased);
  EXPECT_EQ(bench_.landing_metrics.discarded_pages.value(), 1u);
}

TEST_F(LandingTest, WhoWaitsForADiscardedPageGetsAZeroPage) {
  Claim(Pages(10, 1));
  landing_.Remove(Pages(10, 1));
  Fault(10);
  landing_.Complete({Pages(10, 1)});
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 10+1", "zero 10+1"));
}

TEST_F(LandingTest, ARefusedMappingIsTriedAgainAndKeepsItsWaiter) {
  bench_.placer.result = PlaceResult::kRetry;
  Fault(10);
  Claim(Pages(10, 2));
  landing_.Complete({Pages(10, 2)});
  EXPECT_EQ(State(10), kHeld);
  EXPECT_TRUE(landing_.has_retries());
  EXPECT_TRUE(bench_.ledger.HasWaiter(PageIndex(10)));

  bench_.placer.result = PlaceResult::kPlaced;
  landing_.Retry();
  EXPECT_EQ(State(10), kMapped);
  EXPECT_EQ(State(11), kMapped);
  EXPECT_FALSE(landing_.has_retries());
  EXPECT_EQ(bench_.fault_metrics.total.count(), 1u);
}

TEST_F(LandingTest, WhatIsGivenUpWhileItWaitsForARetryIsMappedAsZeroForItsWaiter) {
  bench_.placer.result = PlaceResult::kRetry;
  Fault(10);
  Claim(Pages(10, 1));
  landing_.Complete({Pages(10, 1)});
  bench_.placer.result = PlaceResult::kPlaced;
  landing_.Remove(Pages(10, 1));
  landing_.Retry();
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 10+1", "zero 10+1"));
}

TEST_F(LandingTest, WhenTheRetryListIsFullWaitersAreWokenToFaultAgain) {
  bench_.placer.result = PlaceResult::kRetry;
  for (uint64_t page = 0; page <= Landing::kRetriesMax; ++page) {
    Claim(Pages(page, 1));
    landing_.Complete({Pages(page, 1)});
  }
  EXPECT_EQ(bench_.placer.calls.back(), "wake 128+1");
  EXPECT_EQ(State(Landing::kRetriesMax), kHeld);
}

TEST_F(LandingTest, AGivenBackPageIsAbsentTouchedAndAskedForAgain) {
  int rings = 0;
  bench_.waiters->OnUnasked([&] { ++rings; });
  Fault(10);
  Claim(Pages(10, 2));
  landing_.GiveBack(Pages(10, 2));
  EXPECT_EQ(State(10), kAbsent);
  EXPECT_TRUE(bench_.ledger.IsTouched(PageIndex(11)));
  EXPECT_TRUE(bench_.waiters->TakeUnasked());
  EXPECT_EQ(rings, 1);
  EXPECT_THAT(bench_.placer.calls, IsEmpty());
}

TEST_F(LandingTest, ADiscardedPageThatIsGivenBackIsEmptied) {
  Claim(Pages(10, 1));
  landing_.Remove(Pages(10, 1));
  landing_.GiveBack(Pages(10, 1));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 10+1"));
  EXPECT_EQ(State(10), kReleased);
}

TEST_F(LandingTest, RemoveEmptiesOnlyWhatABrokenLandingLeft) {
  Claim(Pages(10, 1));
  landing_.GiveBack(Pages(10, 1));
  Claim(Pages(11, 1));
  landing_.Complete({Pages(11, 1)});
  bench_.placer.calls.clear();
  landing_.Remove(Pages(9, 4));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 10+1"));
  EXPECT_EQ(bench_.fault_metrics.removed_pages.value(), 4u);
}

TEST_F(LandingTest, RemoveServesWhoWaitsWithAZeroPage) {
  Fault(10);
  landing_.Remove(Pages(10, 1));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("zero 10+1"));
}

TEST_F(LandingTest, AHoleSweepTakesOnlyWhatIsAbsent) {
  Claim(Pages(20, 2));
  Fault(25);
  landing_.SweepHoles(Pages(18, 100));
  EXPECT_EQ(State(18), kHole);
  EXPECT_EQ(State(20), kRequested);
  EXPECT_EQ(State(117), kHole);
  EXPECT_EQ(State(118), kAbsent);
  EXPECT_THAT(bench_.placer.calls, ElementsAre("zero 25+1"));
}

TEST_F(LandingTest, AHoleSweepMayCrossRunsButEachCallStaysInOneRegion) {
  bench_.ledger.MarkTouched(Pages(0, 257));
  landing_.SweepHoles(Pages(192, 64));
  landing_.SweepHoles(Pages(256, 1));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 192+64", "empty 256+1"));
}

TEST_F(LandingTest, LeftoversOfADeadEngineAreEmptied) {
  Claim(Pages(10, 1));
  landing_.Remove(Pages(10, 1));
  bench_.ledger.RecoverAfterCrash();
  landing_.EmptyLeftovers();
  landing_.EmptyLeftovers();
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 10+1"));
}

// Should the engine die between the two, a page that the guest has would be emptied again.
TEST_F(LandingTest, ATouchedMarkIsClearedBeforeThePageIsMapped) {
  Claim(Pages(10, 1));
  landing_.Remove(Pages(10, 1));
  bench_.ledger.RecoverAfterCrash();
  Fault(10);
  bool touched_when_mapped = true;
  bench_.placer.on_call = [&] { touched_when_mapped = bench_.ledger.IsTouched(PageIndex(10)); };
  landing_.Settle(PageIndex(10), bench_.clock.now);
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 10+1", "zero 10+1"));
  EXPECT_FALSE(touched_when_mapped);
}

TEST_F(LandingTest, SaysWhenTheGuestIsGone) {
  bench_.placer.result = PlaceResult::kGone;
  Claim(Pages(10, 1));
  landing_.Complete({Pages(10, 1)});
  EXPECT_TRUE(landing_.guest_gone());
}

TEST_F(LandingTest, TheStagesOfAFaultAddUp) {
  Fault(10);
  Claim(Pages(10, 1));
  bench_.clock.now += Nanos(16);
  bench_.waiters->NoteRequested(PageIndex(10), bench_.clock.now);
  bench_.clock.now += Nanos(4);
  landing_.Complete({.run = Pages(10, 1), .turned = Nanos(3)});
  EXPECT_EQ(bench_.fault_metrics.total.max(), Nanos(20));
  EXPECT_EQ(bench_.fault_metrics.fetch.max(), Nanos(4));
  EXPECT_EQ(bench_.fault_metrics.source.max(), Nanos(3));
  EXPECT_EQ(bench_.fault_metrics.network.max(), Nanos(1));
  EXPECT_EQ(bench_.fault_metrics.place.max(), Nanos(0));
}

}  // namespace
}  // namespace faultline::test
