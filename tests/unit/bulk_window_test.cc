#include "engine/core/bulk_window.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace faultline::test {
namespace {

constexpr Nanos kTrip{100'000};
constexpr Nanos kInterval = WindowController::kIntervalMin;
constexpr ByteCount kMissing{uint64_t{64} << 30};

/// `bytes_per_second` for a second, half of it by each of two pushers.
void Deliver(BulkWindow& window, uint64_t bytes_per_second, uint64_t zero_per_data = 0) {
  constexpr uint64_t kSteps = 1000;
  const ByteCount data(bytes_per_second / kSteps / 2);
  const ByteCount zero(data.value() * zero_per_data);
  for (uint64_t step = 1; step <= kSteps; ++step) {
    window.run_trips().Note(kTrip);
    window.NoteArrived(data, zero);
    window.NoteArrived(data, zero);
    window.Update(step * Nanos(1'000'000), kMissing);
  }
}

TEST(BulkWindowTest, StreamsShareWhatTheLinkCarries) {
  BulkWindow one(1);
  BulkWindow four(4);
  Deliver(one, 1'000'000'000);
  Deliver(four, 1'000'000'000);
  EXPECT_EQ(one.window(), four.window());
  EXPECT_EQ(four.Share().value(), one.Share().value() / 4);
  EXPECT_GT(one.bandwidth(), 900'000'000U);
}

TEST(BulkWindowTest, ASlowLinkGetsShortRunsAndAFastOneWholeOnes) {
  BulkWindow slow(2);
  BulkWindow fast(2);
  Deliver(slow, 125'000'000);
  Deliver(fast, 4'000'000'000);
  EXPECT_LE(slow.RunBytes(), ByteCount(64 * 1024));
  EXPECT_EQ(fast.RunBytes(), kRunBytesMax);
}

TEST(BulkWindowTest, AFixedWindowStaysAndTheLinkIsMeasuredAllTheSame) {
  BulkWindow window(2, ByteCount(1 << 20));
  EXPECT_EQ(window.RunBytes(), kRunBytesMax);
  Deliver(window, 125'000'000);
  EXPECT_EQ(window.window(), ByteCount(1 << 20));
  EXPECT_EQ(window.Share(), ByteCount(1 << 19));
  EXPECT_EQ(window.RunBytes(), kRunBytesMax);
  EXPECT_GT(window.bandwidth(), 100'000'000U);
}

TEST(BulkWindowTest, ZeroPagesSayNothingAboutTheLink) {
  BulkWindow window(2);
  Deliver(window, 125'000'000, 100);
  EXPECT_LE(window.bandwidth(), 130'000'000U);
}

TEST(BulkWindowTest, NothingChangesBeforeAnIntervalIsOver) {
  BulkWindow window(2);
  window.Update(Nanos(1), kMissing);
  window.run_trips().Note(kTrip);
  window.NoteArrived(ByteCount(1 << 30), ByteCount(0));
  window.Update(kInterval / 2, kMissing);
  EXPECT_EQ(window.bandwidth(), 0U);
  window.Update(kInterval * 2, kMissing);
  EXPECT_GT(window.bandwidth(), 0U);
}

TEST(BulkWindowTest, ManyPushersAtOnceKeepItWithinItsBounds) {
  BulkWindow window(4);
  std::vector<std::thread> pushers;
  for (int pusher = 0; pusher < 4; ++pusher) {
    pushers.emplace_back([&window] {
      for (int64_t step = 1; step <= 20'000; ++step) {
        window.run_trips().Note(kTrip);
        window.urgent_trips().Note(kTrip);
        window.NoteArrived(ByteCount(256 * 1024), ByteCount(4096));
        window.Update(step * Nanos(100'000), kMissing);
      }
    });
  }
  for (std::thread& pusher : pushers) pusher.join();
  EXPECT_GE(window.window(), WindowController::kLeast);
  EXPECT_LE(window.window(), WindowController::kMost);
  EXPECT_GT(window.bandwidth(), 0U);
}

}  // namespace
}  // namespace faultline::test
