#include "engine/core/metrics.h"

#include <gtest/gtest.h>

#include <memory>

namespace faultline {
namespace {

TEST(LatencyHistogram, IsEmptyAtFirst) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.Quantile(0.99), Nanos(0));
  EXPECT_EQ(histogram.max(), Nanos(0));
}

// One value per histogram, from nanoseconds to an hour: the quantile is that value, at most
// 6.5 % above and never below.
TEST(LatencyHistogram, ErrsByAtMostSixAndAHalfPerCent) {
  for (double ns = 1; ns < 3.6e12; ns = ns * 1.013 + 1) {
    const auto exact = Nanos(static_cast<int64_t>(ns));
    const Nanos longer = exact * 2;
    LatencyHistogram histogram;
    histogram.Record(exact);
    histogram.Record(longer);
    const Nanos median = histogram.Quantile(0.5);
    ASSERT_GE(median, exact);
    ASSERT_LE(static_cast<double>(median.count()), static_cast<double>(exact.count()) * 1.065);
  }
}

TEST(LatencyHistogram, QuantilesCountFromBelow) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 10; ++i) histogram.Record(Nanos(i));
  EXPECT_EQ(histogram.Quantile(0), Nanos(1));
  EXPECT_EQ(histogram.Quantile(0.5), Nanos(5));
  EXPECT_EQ(histogram.Quantile(0.9), Nanos(9));
  EXPECT_EQ(histogram.Quantile(1), Nanos(10));
  EXPECT_EQ(histogram.sum(), Nanos(55));
}

TEST(LatencyHistogram, NoQuantileExceedsTheMaximum) {
  LatencyHistogram histogram;
  histogram.Record(Nanos(1'000'001));
  EXPECT_EQ(histogram.Quantile(0.999), Nanos(1'000'001));
}

TEST(LatencyHistogram, TakesNegativeAndHugeLatencies) {
  LatencyHistogram histogram;
  histogram.Record(Nanos(-5));
  histogram.Record(Nanos::max());
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.Quantile(0.1), Nanos(0));
  EXPECT_EQ(histogram.max(), Nanos::max());
}

TEST(LatencyHistogram, MergingAddsUp) {
  LatencyHistogram one;
  LatencyHistogram other;
  one.Record(Nanos(10));
  other.Record(Nanos(1000));
  other.Record(Nanos(10));
  one.MergeFrom(other);
  EXPECT_EQ(one.count(), 3u);
  EXPECT_EQ(one.sum(), Nanos(1020));
  EXPECT_EQ(one.max(), Nanos(1000));
  EXPECT_EQ(one.Quantile(0.5), Nanos(10));
}

}  // namespace
}  // namespace faultline
