#include "engine/core/window_controller.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace faultline::test {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A bottleneck that keeps all that is in flight: first on the way, then in its queue.
struct Link {
  double bytes_per_second;
  Nanos path;
  ByteCount missing{uint64_t{64} << 30};

  [[nodiscard]] Nanos Queue(ByteCount window) const {
    const double holds_s = static_cast<double>(window.value()) / bytes_per_second;
    return std::max(Nanos(static_cast<int64_t>(holds_s * 1e9)) - path, Nanos(0));
  }
  [[nodiscard]] LinkSample Sample(const WindowController& controller) const {
    const Nanos trip = path + Queue(controller.window());
    const double windows =
        static_cast<double>(controller.interval().count()) / static_cast<double>(trip.count());
    const double bytes = windows * static_cast<double>(controller.window().value());
    return {.elapsed = controller.interval(),
            .delivered = ByteCount(static_cast<uint64_t>(bytes)),
            .run_round_trip = trip,
            .urgent_round_trip = trip,
            .missing = missing};
  }
  /// The first run finds the link empty.
  void Start(WindowController& controller) const {
    LinkSample first = Sample(controller);
    const double run = static_cast<double>(WindowController::kLeast.value());
    first.run_round_trip = path + Nanos(static_cast<int64_t>(run / bytes_per_second * 1e9));
    first.urgent_round_trip = path;
    controller.OnInterval(first);
  }
  void Run(WindowController& controller, Nanos duration) const {
    for (Nanos at{0}; at < duration;) {
      const LinkSample sample = Sample(controller);
      at += sample.elapsed;
      controller.OnInterval(sample);
    }
  }
  /// Demand fetches pass by the queue.
  void RunPassed(WindowController& controller, int intervals) const {
    for (int i = 0; i < intervals; ++i) {
      LinkSample sample = Sample(controller);
      sample.urgent_round_trip = path;
      controller.OnInterval(sample);
    }
  }
  [[nodiscard]] double Product() const {
    return bytes_per_second * static_cast<double>(path.count()) / 1e9;
  }
};

constexpr Link kGigabit{125e6, microseconds(100)};
constexpr Link kFast{3e9, microseconds(100)};
constexpr Link kFar{1.25e9, milliseconds(20)};

TEST(WindowControllerTest, AShortSlowLinkGetsAQueueOfLessThanAMillisecond) {
  WindowController controller;
  kGigabit.Start(controller);
  kGigabit.Run(controller, milliseconds(200));
  EXPECT_GT(controller.window(), ByteCount(32 * 1024));
  EXPECT_LT(kGigabit.Queue(controller.window()), microseconds(800));
}

TEST(WindowControllerTest, AFastLinkGetsAWindowThatFillsIt) {
  WindowController controller;
  kFast.Start(controller);
  kFast.Run(controller, milliseconds(100));
  EXPECT_GT(static_cast<double>(controller.window().value()), kFast.Product());
  EXPECT_LT(kFast.Queue(controller.window()), 2 * WindowController::kDelay);
}

TEST(WindowControllerTest, ALongFatLinkIsFilledWithinAFewRoundTrips) {
  WindowController controller;
  kFar.Start(controller);
  kFar.Run(controller, seconds(1));
  const auto window = static_cast<double>(controller.window().value());
  EXPECT_GT(window, kFar.Product());
  EXPECT_LT(window, 2 * kFar.Product());
}

TEST(WindowControllerTest, TheWindowFollowsALinkThatBecomesSlowerAndFasterAgain) {
  WindowController controller;
  kFast.Start(controller);
  kFast.Run(controller, milliseconds(200));
  kGigabit.Run(controller, milliseconds(400));
  EXPECT_LT(kGigabit.Queue(controller.window()), milliseconds(1));
  kFast.Run(controller, milliseconds(400));
  EXPECT_GT(static_cast<double>(controller.window().value()), kFast.Product());
}

TEST(WindowControllerTest, AQueueThatDemandFetchesDoNotMeetMayGrow) {
  WindowController met;
  kFast.Start(met);
  kFast.Run(met, milliseconds(500));
  WindowController passed;
  kFast.Start(passed);
  kFast.RunPassed(passed, 100);
  EXPECT_GT(passed.window().value(), 2 * met.window().value());
  EXPECT_LE(kFast.Queue(passed.window()), WindowController::kQueueMost + microseconds(10));
}

TEST(WindowControllerTest, WithLittleMissingAFaultIsLikelyToMeetAPageInFlightAndTheQueueIsShort) {
  WindowController controller;
  kFast.Start(controller);
  kFast.RunPassed(controller, 100);
  ASSERT_GT(kFast.Queue(controller.window()), 2 * WindowController::kQueueAtFirst);
  Link nearly_done = kFast;
  nearly_done.missing = ByteCount(uint64_t{16} << 20);
  nearly_done.RunPassed(controller, 1);
  EXPECT_LE(kFast.Queue(controller.window()), WindowController::kQueueLeast + microseconds(10));
}

TEST(WindowControllerTest, ItShrinksWhileDemandFetchesTakeLongAndComesBackWhenTheyDoNot) {
  WindowController controller;
  kFast.Start(controller);
  kFast.RunPassed(controller, 100);
  const ByteCount before = controller.window();
  LinkSample crowded = kFast.Sample(controller);
  crowded.urgent_round_trip = milliseconds(5);
  for (int i = 0; i < 20; ++i) controller.OnInterval(crowded);
  EXPECT_LT(controller.window().value(), before.value() / 2);
  kFast.RunPassed(controller, 100);
  EXPECT_GE(controller.window().value(), before.value() * 9 / 10);
}

TEST(WindowControllerTest, WithoutAnyDemandFetchTheQueueMayGrow) {
  WindowController controller;
  kFast.Start(controller);
  WindowController unheard;
  for (int i = 0; i < 100; ++i) {
    LinkSample sample = kFast.Sample(unheard);
    sample.run_round_trip = kFast.path;
    sample.urgent_round_trip = Nanos(0);
    unheard.OnInterval(sample);
  }
  EXPECT_GT(unheard.window().value(), 2 * controller.window().value());
}

TEST(WindowControllerTest, WithAllItsSlackEmptyTheWindowStillFillsTheLink) {
  for (const Link& link : {kGigabit, kFast, kFar}) {
    WindowController controller;
    link.Start(controller);
    EXPECT_LE(controller.slack().value(), controller.window().value() / 2);
    link.Run(controller, seconds(1));
    const ByteCount full = controller.window() - controller.slack();
    EXPECT_GT(static_cast<double>(full.value()), link.Product());
  }
}

TEST(WindowControllerTest, ItNeverGoesBelowOneRunNorAboveItsBound) {
  WindowController slow;
  Link{50e3, microseconds(100)}.Run(slow, seconds(3));
  EXPECT_EQ(slow.window(), WindowController::kLeast);
  WindowController fast;
  Link{100e9, milliseconds(100)}.Run(fast, seconds(9));
  EXPECT_EQ(fast.window(), WindowController::kMost);
}

TEST(WindowControllerTest, AnIntervalThatWasHeldBackSaysNothingAboutTheLink) {
  WindowController controller;
  kFast.Start(controller);
  kFast.Run(controller, milliseconds(200));
  const ByteCount before = controller.window();
  for (int i = 0; i < 100; ++i) {
    controller.OnInterval({.elapsed = milliseconds(5),
                           .delivered = ByteCount(1),
                           .missing = kFast.missing,
                           .limited = true});
  }
  EXPECT_EQ(controller.window(), before);
}

TEST(WindowControllerTest, ALongerPathIsLearntInsteadOfTakenForAQueue) {
  WindowController controller;
  kGigabit.Start(controller);
  kGigabit.Run(controller, seconds(1));
  const Link longer{125e6, milliseconds(10)};
  longer.Run(controller, WindowController::kBaseLife + seconds(3));
  EXPECT_GT(static_cast<double>(controller.window().value()), longer.Product());
}

TEST(WindowControllerTest, ItsOwnQueueIsNeverTakenForALongerPath) {
  WindowController controller;
  kGigabit.Start(controller);
  kGigabit.Run(controller, 10 * WindowController::kBaseLife);
  EXPECT_LT(kGigabit.Queue(controller.window()), microseconds(800));
}

}  // namespace
}  // namespace faultline::test
