// The pool's arithmetic.
#include <gtest/gtest.h>

#include "rdma/landing_pool.h"

namespace faultline::testing {
namespace {

using rdma::RingSpace;

TEST(RingSpace, PiecesAreContiguousAlsoWhereTheRingEnds) {
  RingSpace ring(100);
  const auto first = ring.Fit(70);
  ring.Take(*first);
  ring.GiveBack(*first);
  const auto second = ring.Fit(40);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->offset, 0U);
}

TEST(RingSpace, WhatIsTakenIsNotGivenTwice) {
  RingSpace ring(100);
  const auto first = ring.Fit(60);
  ring.Take(*first);
  EXPECT_FALSE(ring.Fit(41).has_value());
  const auto second = ring.Fit(40);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->offset, 60U);
  ring.Take(*second);
  EXPECT_FALSE(ring.Fit(1).has_value());
}

TEST(RingSpace, WhatWasSkippedComesBackWithThePieceBehindIt) {
  RingSpace ring(100);
  const auto first = ring.Fit(50);
  ring.Take(*first);
  ring.GiveBack(*first);
  const auto second = ring.Fit(60);
  EXPECT_FALSE(second.has_value()) << "50 skipped and 60 taken are more than there are";
  const auto third = ring.Fit(50);
  ASSERT_TRUE(third.has_value());
  ring.Take(*third);
  ring.GiveBack(*third);
  EXPECT_EQ(ring.Fit(100)->offset, 0U);
}

TEST(RingSpace, MoreThanThereIsNeverFits) {
  const RingSpace ring(100);
  EXPECT_TRUE(ring.Fit(100).has_value());
  EXPECT_FALSE(ring.Fit(101).has_value());
}

}  // namespace
}  // namespace faultline::testing
