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

TEST(SpinPolicy, OneThatCameWipesOutTheMisses) {
  SpinPolicy policy;
  for (int i = 0; i < 10; ++i) {
    Miss(policy, SpinPolicy::kMissesMax - 1);
    ASSERT_TRUE(policy.Pays());
    policy.NoteLooked(true);
  }
}

TEST(SpinPolicy, IsTriedAgainOnceAndThenAsLongAsItComes) {
  SpinPolicy policy;
  Miss(policy, SpinPolicy::kMissesMax);
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
  policy.NoteLooked(false);  // still in vain
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
  policy.NoteLooked(true);
  Miss(policy, SpinPolicy::kMissesMax);
  EXPECT_EQ(Slept(policy), SpinPolicy::kWaitsSlept);
}

}  // namespace
}  // namespace faultline::test
