#include "engine/core/ledger.h"

#include <gtest/gtest.h>

#include <vector>

namespace faultline {
namespace {

using enum PageState;

constexpr PageIndex kPage(3);

class LedgerTest : public testing::Test {
 protected:
  /// Takes kPage along a path of events.
  void Go(std::initializer_list<PageEvent> events) {
    for (const PageEvent event : events) ASSERT_TRUE(ledger_.Apply(kPage, event).legal);
  }

  std::vector<Ledger::Cell> cells_ = std::vector<Ledger::Cell>(8);
  Ledger ledger_{cells_};
};

TEST_F(LedgerTest, FreshStorageIsAllAbsentAndMissing) {
  EXPECT_EQ(ledger_.missing(), PageCount(8));
  EXPECT_EQ(ledger_.State(PageIndex(7)), kAbsent);
  EXPECT_EQ(ledger_.TakeCensus().count[0], 8u);
}

TEST_F(LedgerTest, AnIllegalEventChangesNothing) {
  const Ledger::Change change = ledger_.Apply(kPage, PageEvent::kLand);
  EXPECT_FALSE(change.legal);
  EXPECT_EQ(change.before, kAbsent);
  EXPECT_EQ(ledger_.State(kPage), kAbsent);
}

TEST_F(LedgerTest, AClaimTakesTheAbsentPrefixAndNoMore) {
  ledger_.Apply(PageIndex(4), PageEvent::kClaim);
  const PageRun claimed = ledger_.ClaimPrefix({PageIndex(1), PageCount(6)});
  EXPECT_EQ(claimed, (PageRun{PageIndex(1), PageCount(3)}));
  EXPECT_TRUE(ledger_.ClaimPrefix({PageIndex(4), PageCount(2)}).empty());
  EXPECT_EQ(ledger_.State(PageIndex(5)), kAbsent);
}

TEST_F(LedgerTest, CountsAPageAsMissingUntilItIsCompleteOrGivenUp) {
  Go({PageEvent::kClaim});
  EXPECT_EQ(ledger_.missing(), PageCount(8));
  Go({PageEvent::kRemove});
  EXPECT_EQ(ledger_.missing(), PageCount(8)) << "its bytes are still landing";
  Go({PageEvent::kLand});
  EXPECT_EQ(ledger_.missing(), PageCount(7));
  Go({PageEvent::kRemove});
  EXPECT_EQ(ledger_.missing(), PageCount(7));
}

TEST_F(LedgerTest, AFaultMarksItsWaiterInEveryState) {
  EXPECT_EQ(ledger_.OnFault(kPage, true).after, kRequested);
  EXPECT_TRUE(ledger_.HasWaiter(kPage));
  EXPECT_TRUE(ledger_.Apply(kPage, PageEvent::kLand).had_waiter);
  EXPECT_TRUE(ledger_.HasWaiter(kPage)) << "until somebody begins to place it";
}

TEST_F(LedgerTest, AFaultThatMayNotClaimOnlyMarks) {
  EXPECT_EQ(ledger_.OnFault(kPage, false).after, kAbsent);
  EXPECT_TRUE(ledger_.HasWaiter(kPage));
  EXPECT_EQ(ledger_.ClaimPrefix({kPage, PageCount(1)}).count, PageCount(1));
  EXPECT_TRUE(ledger_.HasWaiter(kPage));
}

TEST_F(LedgerTest, OnlyOneThreadPlacesAPage) {
  Go({PageEvent::kClaim, PageEvent::kLand});
  EXPECT_TRUE(ledger_.BeginPlacingHeld(kPage).legal);
  EXPECT_FALSE(ledger_.BeginPlacingHeld(kPage).legal);
  ledger_.OnFault(kPage, true);
  EXPECT_FALSE(ledger_.BeginPlacingAwaited(kPage).legal);
  ledger_.StopPlacing(kPage, false);
  EXPECT_TRUE(ledger_.BeginPlacingAwaited(kPage).legal);
}

TEST_F(LedgerTest, AWaiterThatComesWhileAPageIsBeingPlacedIsSeenAtTheEnd) {
  ledger_.OnFault(kPage, true);
  Go({PageEvent::kLand});
  EXPECT_TRUE(ledger_.BeginPlacingAwaited(kPage).had_waiter);
  EXPECT_FALSE(ledger_.HasWaiter(kPage));
  ledger_.OnFault(kPage, true);
  EXPECT_TRUE(ledger_.Apply(kPage, PageEvent::kMap).had_waiter);
  EXPECT_FALSE(ledger_.HasWaiter(kPage));
}

TEST_F(LedgerTest, NobodyPlacesWhatIsMissing) {
  ledger_.OnFault(kPage, false);
  EXPECT_FALSE(ledger_.BeginPlacingAwaited(kPage).legal);
  ledger_.OnFault(kPage, true);
  EXPECT_FALSE(ledger_.BeginPlacingAwaited(kPage).legal);
  Go({PageEvent::kRemove});
  EXPECT_FALSE(ledger_.BeginPlacingAwaited(kPage).legal);
}

TEST_F(LedgerTest, ABrokenLandingLeavesThePageTouched) {
  Go({PageEvent::kClaim});
  EXPECT_FALSE(ledger_.IsTouched(kPage));
  Go({PageEvent::kLaneQuiet});
  EXPECT_TRUE(ledger_.IsTouched(kPage));
  Go({PageEvent::kClaim, PageEvent::kLand});
  EXPECT_FALSE(ledger_.IsTouched(kPage));
}

TEST_F(LedgerTest, ATouchedPageThatIsGivenUpMustBeEmptied) {
  ledger_.MarkTouched({kPage, PageCount(1)});
  EXPECT_TRUE(ledger_.Apply(kPage, PageEvent::kRemove).must_empty);
  ledger_.OnFault(kPage, true);
  EXPECT_FALSE(ledger_.BeginPlacingAwaited(kPage).legal) << "whoever empties it places it";
  ledger_.NoteEmptied(kPage);
  ledger_.StopPlacing(kPage, false);
  const Ledger::Change begun = ledger_.BeginPlacingAwaited(kPage);
  EXPECT_TRUE(begun.legal);
  EXPECT_FALSE(begun.was_touched);
}

TEST_F(LedgerTest, APageThatTheGuestMayHaveHadIsNeverEmptied) {
  Go({PageEvent::kClaim, PageEvent::kLand});
  EXPECT_FALSE(ledger_.Apply(kPage, PageEvent::kRemove).must_empty);
  EXPECT_FALSE(ledger_.Apply(kPage, PageEvent::kRemove).must_empty);
}

TEST_F(LedgerTest, ATouchedMarkComesOnlyOnWhatIsMissing) {
  Go({PageEvent::kClaim, PageEvent::kLand, PageEvent::kMap});
  ledger_.MarkTouched({PageIndex(0), PageCount(8)});
  EXPECT_FALSE(ledger_.IsTouched(kPage));
  EXPECT_TRUE(ledger_.IsTouched(PageIndex(0)));
}

TEST_F(LedgerTest, ApplyFromHoldsToTheExpectedState) {
  Go({PageEvent::kClaim, PageEvent::kRemove});
  EXPECT_FALSE(ledger_.ApplyFrom(kRequested, kPage, PageEvent::kLand).legal);
  EXPECT_EQ(ledger_.State(kPage), kDiscarding);
  EXPECT_TRUE(ledger_.ApplyFrom(kDiscarding, kPage, PageEvent::kLand).legal);
}

class OvertakingTest : public LedgerTest {
 protected:
  OvertakingTest() { ledger_.ClaimPrefix(kRun, Ledger::Claim::kOvertakable); }
  static constexpr PageRun kRun{PageIndex(2), PageCount(4)};  ///< kPage is its second
};

TEST_F(OvertakingTest, AFaultTakesAPageOnceAndTheLaneThatAskedGetsTheRest) {
  EXPECT_TRUE(ledger_.OnFault(kPage, true).overtook);
  EXPECT_EQ(ledger_.State(kPage), kRequested);
  EXPECT_FALSE(ledger_.OnFault(kPage, true).overtook) << "it is on its way";
  EXPECT_EQ(ledger_.BeginLanding(kRun), 0b0010u);
  EXPECT_TRUE(ledger_.Apply(kPage, PageEvent::kLand).had_waiter);
}

TEST_F(OvertakingTest, WhatIsLandingIsNotOvertaken) {
  EXPECT_EQ(ledger_.BeginLanding(kRun), 0u);
  const Ledger::Change change = ledger_.OnFault(kPage, true);
  EXPECT_FALSE(change.overtook);
  EXPECT_TRUE(ledger_.HasWaiter(kPage));
  EXPECT_EQ(ledger_.BeginLanding(kRun), 0b1111u) << "and nobody else's to land";
}

TEST_F(OvertakingTest, WithoutALaneNobodyOvertakes) {
  EXPECT_FALSE(ledger_.OnFault(kPage, false).overtook);
  EXPECT_EQ(ledger_.BeginLanding(kRun), 0u);
}

TEST_F(OvertakingTest, NorIsAnExclusiveClaim) {
  ledger_.ClaimPrefix({PageIndex(6), PageCount(1)});
  EXPECT_FALSE(ledger_.OnFault(PageIndex(6), true).overtook);
}

TEST_F(OvertakingTest, APageThatIsGivenUpKeepsItsLane) {
  Go({PageEvent::kRemove});
  EXPECT_FALSE(ledger_.OnFault(kPage, true).overtook);
  EXPECT_EQ(ledger_.State(kPage), kDiscarding);
  EXPECT_EQ(ledger_.BeginLanding(kRun), 0u);
  Go({PageEvent::kLand});
  EXPECT_EQ(ledger_.State(kPage), kReleased);
}

TEST_F(OvertakingTest, WhatADeadLaneHadBegunCanBeOvertakenAgain) {
  ledger_.BeginLanding(kRun);
  ledger_.AbandonLanding({kPage, PageCount(1)});
  EXPECT_TRUE(ledger_.OnFault(kPage, true).overtook);
  EXPECT_TRUE(ledger_.IsTouched(kPage)) << "a part of it may have landed";
  EXPECT_FALSE(ledger_.OnFault(PageIndex(4), true).overtook);
}

TEST_F(OvertakingTest, RecoveryLeavesNoMark) {
  ledger_.RecoverAfterCrash();
  EXPECT_EQ(ledger_.ClaimPrefix(kRun), kRun);
  EXPECT_FALSE(ledger_.OnFault(kPage, true).overtook);
}

TEST_F(LedgerTest, RecoveryTakesBackEveryClaimAndKeepsWhatWasComplete) {
  const PageIndex held(0), discarding(1), requested(2), placing(4);
  ledger_.Apply(held, PageEvent::kClaim);
  ledger_.Apply(held, PageEvent::kLand);
  ledger_.Apply(discarding, PageEvent::kClaim);
  ledger_.Apply(discarding, PageEvent::kRemove);
  ledger_.OnFault(requested, true);
  ledger_.Apply(placing, PageEvent::kClaim);
  ledger_.Apply(placing, PageEvent::kLand);
  ledger_.BeginPlacingHeld(placing);

  Ledger next(cells_);
  next.RecoverAfterCrash();
  EXPECT_EQ(next.State(held), kHeld);
  EXPECT_EQ(next.State(discarding), kReleased);
  EXPECT_TRUE(next.IsTouched(discarding));
  EXPECT_EQ(next.State(requested), kAbsent);
  EXPECT_TRUE(next.IsTouched(requested));
  EXPECT_FALSE(next.HasWaiter(requested));
  EXPECT_TRUE(next.BeginPlacingHeld(placing).legal);
  EXPECT_EQ(next.missing(), PageCount(5));
}

}  // namespace
}  // namespace faultline
