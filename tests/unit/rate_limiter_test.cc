#include "engine/core/rate_limiter.h"

#include <gtest/gtest.h>

#include <chrono>

namespace faultline {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(RateLimiter, WithoutARateNothingWaits) {
  RateLimiter limiter(0, ByteCount(1));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1 << 30), Nanos(0)));
  EXPECT_EQ(limiter.WaitFor(ByteCount(1 << 30), Nanos(0)), Nanos(0));
}

TEST(RateLimiter, TheBurstGoesAtOnceAndThenTheRateRules) {
  RateLimiter limiter(1'000'000, ByteCount(1000));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1000), Nanos(0)));
  EXPECT_FALSE(limiter.TryTake(ByteCount(1000), Nanos(0)));
  EXPECT_EQ(limiter.WaitFor(ByteCount(1000), Nanos(0)), milliseconds(1));
  EXPECT_FALSE(limiter.TryTake(ByteCount(1000), microseconds(999)));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1000), milliseconds(1)));
}

TEST(RateLimiter, AfterTheWaitItSaidTheRequestGoes) {
  RateLimiter limiter(333'333, ByteCount(4096));
  Nanos now(17);
  for (int i = 0; i < 1000; ++i) {
    now += limiter.WaitFor(ByteCount(3000), now);
    ASSERT_TRUE(limiter.TryTake(ByteCount(3000), now)) << "request " << i;
  }
}

TEST(RateLimiter, OverTimeTheRateIsKeptToTheByte) {
  constexpr uint64_t kRate = 123'456'789;
  RateLimiter limiter(kRate, ByteCount(262144));
  Nanos now(0);
  uint64_t taken = 0;
  while (now < seconds(2)) {
    taken += uint64_t{limiter.TryTake(ByteCount(65536), now)} * 65536;
    now += Nanos(777);
  }
  EXPECT_LE(taken, 2 * kRate + 262144);
  EXPECT_GE(taken, 2 * kRate - 65536);
}

TEST(RateLimiter, WhatIsLargerThanTheBurstGoesWhenTheBucketIsFullAndIsPaidAfterwards) {
  RateLimiter limiter(1'000'000, ByteCount(1000));
  EXPECT_TRUE(limiter.TryTake(ByteCount(3000), Nanos(0)));
  EXPECT_FALSE(limiter.TryTake(ByteCount(1), milliseconds(2)));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1000), milliseconds(3)));
}

TEST(RateLimiter, AnIdleBucketHoldsNoMoreThanTheBurst) {
  RateLimiter limiter(1'000'000, ByteCount(1000));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1000), seconds(100)));
  EXPECT_FALSE(limiter.TryTake(ByteCount(1000), seconds(100)));
}

TEST(RateLimiter, AClockThatStandsStillEarnsNothing) {
  RateLimiter limiter(~uint64_t{0} >> 1, ByteCount(1000));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1000), Nanos(5)));
  EXPECT_FALSE(limiter.TryTake(ByteCount(1), Nanos(5)));
  EXPECT_TRUE(limiter.TryTake(ByteCount(1000), Nanos(6)));
}

}  // namespace
}  // namespace faultline
