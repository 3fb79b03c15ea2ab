#include "engine/core/page_life.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

using enum PageState;

TEST(PageLife, ZeroedMemoryIsAbsent) { EXPECT_EQ(static_cast<PageState>(0), kAbsent); }

TEST(PageLife, TheUsualPageIsClaimedLandsAndIsMapped) {
  PageState state = kAbsent;
  for (const PageEvent event : {PageEvent::kClaim, PageEvent::kLand, PageEvent::kMap}) {
    ASSERT_TRUE(IsLegal(state, event));
    state = NextState(state, event);
  }
  EXPECT_EQ(state, kMapped);
}

TEST(PageLife, WhatIsGivenUpWhileLandingIsReleasedOnlyWhenTheLandingHasEnded) {
  EXPECT_EQ(NextState(kRequested, PageEvent::kRemove), kDiscarding);
  EXPECT_FALSE(IsLegal(kDiscarding, PageEvent::kMap));
  EXPECT_EQ(NextState(kDiscarding, PageEvent::kLand), kReleased);
  EXPECT_EQ(NextState(kDiscarding, PageEvent::kFoundEmpty), kReleased);
  EXPECT_EQ(NextState(kDiscarding, PageEvent::kLaneQuiet), kReleased);
}

TEST(PageLife, OnlyAQuietLaneTakesAClaimBack) {
  EXPECT_EQ(NextState(kRequested, PageEvent::kLaneQuiet), kAbsent);
  EXPECT_FALSE(IsLegal(kHeld, PageEvent::kLaneQuiet));
  EXPECT_FALSE(IsLegal(kMapped, PageEvent::kLaneQuiet));
}

TEST(PageLife, NothingIsClaimedTwice) {
  EXPECT_FALSE(IsLegal(kRequested, PageEvent::kClaim));
  EXPECT_FALSE(IsLegal(kHeld, PageEvent::kClaim));
  EXPECT_FALSE(IsLegal(kMapped, PageEvent::kClaim));
  EXPECT_FALSE(IsLegal(kHole, PageEvent::kClaim));
  EXPECT_FALSE(IsLegal(kReleased, PageEvent::kClaim));
}

}  // namespace
}  // namespace faultline
