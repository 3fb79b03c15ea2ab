#include "engine/core/spin_policy.h"

#include <gtest/gtest.h>

namespace faultline::test {
namespace {

void Miss(SpinPolicy& policy, int times) {
  for (int i = 0; i < times; ++i) {
    ASSERT_TRUE(policy.Pays()) << i;
    policy.NoteLooked(false);
  }
}

void Hit(SpinPolicy& policy, int times) {
  for (int i = 0; i < times; ++i) {
    ASSERT_TRUE(policy.Pays()) << i;
    policy.NoteLooked(true);
  }
}

/// How many waits are slept until it is tried again.
int Slept(SpinPolicy& policy) {
  int waits = 0;
  while (!policy.Pays()) ++waits;
  return waits;
}

TEST(SpinPolicy, PaysUntilItHasBeenInVainSeveralTimesInARow) {
  SpinPolicy policy;
  Miss(policy, SpinPolicy::kMissesMax);
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
}

TEST(SpinPolicy, PaysForAsLongAsTwoOfThreeCome) {
  SpinPolicy policy;
  Miss(policy, SpinPolicy::kMissesMax - 1);
  for (int i = 0; i < 100; ++i) {
    Hit(policy, SpinPolicy::kHitsForAMiss);
    Miss(policy, 1);
  }
  EXPECT_TRUE(policy.Pays());
}

TEST(SpinPolicy, DoesNotPayWhereEveryOtherOneComesTooLate) {
  SpinPolicy policy;
  int looks = 0;
  while (policy.Pays() && looks < 100) policy.NoteLooked(++looks % 2 == 0);
  EXPECT_LT(looks, 4 * SpinPolicy::kMissesMax);
}

TEST(SpinPolicy, IsTriedAgainAFewTimesAndThenAsLongAsItComes) {
  SpinPolicy policy;
  Miss(policy, SpinPolicy::kMissesMax);
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
  policy.NoteLooked(false);
  Miss(policy, SpinPolicy::kChances - 1);  // still in vain
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
  policy.NoteLooked(true);
  Hit(policy, 2 * SpinPolicy::kMissesMax);
  Miss(policy, SpinPolicy::kMissesMax);
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
}

}  // namespace
}  // namespace faultline::test
