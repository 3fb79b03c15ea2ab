// A lane that works: every page's content, wherever it lands.
#include <gmock/gmock.h>
#include <poll.h>

#include "tests/rdma/support/device_test_fixture.h"

namespace faultline::testing {
namespace {

constexpr uint64_t kPages = 512;

class LaneTest : public OnDevice {
 protected:
  /// Fetches all pages in runs of `run_pages`, as many at once as the lane takes.
  static void FetchAll(ReadingEnd& reading, rdma::ReadChannel& lane, uint64_t run_pages) {
    PageCount arrived;
    const auto reap = [&](uint64_t pages) {
      for (const PageRun& run : reading.Reap(lane, pages)) arrived += run.count;
    };
    for (PageIndex page; page < reading.ram.All().end();) {
      const PageRun run{page, std::min(PageCount(run_pages), reading.ram.All().end() - page)};
      const PageRun piece = reading.table.RouteOf(run).run;
      for (int i = 0; i < 1000 && (lane.Room() == 0 || !lane.RouteOf(piece).direct); ++i) reap(1);
      lane.Post(piece);
      page = piece.end();
    }
    reap((reading.ram.All().count - arrived).value());
  }
  static uint64_t CountPatterns(const ReadingEnd& reading) {
    uint64_t right = 0;
    for (PageIndex page; page < reading.ram.All().end(); ++page) {
      right += static_cast<uint64_t>(reading.ram.HoldsPattern(page));
    }
    return right;
  }
};

TEST_F(LaneTest, SinglePagesLandInThePoolAndThenInTheirPlace) {
  const SourceEnd source(kPages, 128);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  lane->Post(Pages(7, 1));
  EXPECT_THAT(reading.Reap(*lane, 1), ::testing::ElementsAre(Pages(7, 1)));
  EXPECT_TRUE(reading.ram.HoldsPattern(PageIndex(7)));
  EXPECT_TRUE(reading.ram.HoldsZero(PageIndex(6)));
  EXPECT_TRUE(reading.ram.HoldsZero(PageIndex(8)));
  EXPECT_EQ(reading.sink.written, 1);
}

TEST_F(LaneTest, WhereTheAliasIsRegisteredPagesLandInPlace) {
  const SourceEnd source(kPages, 128);
  ReadingEnd reading(source, source.regions);
  ASSERT_TRUE(reading.local.RegisterOne(1).has_value());
  const auto lane = reading.Open(source);
  lane->Post(Pages(130, 64));
  EXPECT_THAT(reading.Reap(*lane, 64), ::testing::ElementsAre(Pages(130, 64)));
  EXPECT_TRUE(reading.ram.HoldsPattern(PageIndex(130)));
  EXPECT_TRUE(reading.ram.HoldsPattern(PageIndex(193)));
  EXPECT_TRUE(reading.ram.HoldsZero(PageIndex(194)));
  EXPECT_EQ(reading.sink.written, 0);
}

TEST_F(LaneTest, RunsOfEveryLengthBringEveryPage) {
  const SourceEnd source(kPages, 100);
  for (const uint64_t run_pages : {1U, 3U, 16U, 64U}) {
    ReadingEnd reading(source, source.regions, kRunBytesMax + kRunBytesMax);
    ASSERT_TRUE(reading.local.RegisterOne(2).has_value());
    const auto lane = reading.Open(source, run_pages);
    FetchAll(reading, *lane, run_pages);
    EXPECT_EQ(CountPatterns(reading), kPages) << "runs of " << run_pages;
    EXPECT_EQ(lane->WireBytes(), ByteCount(kPages * 4096));
  }
}

TEST_F(LaneTest, ArrivalsComeInTheOrderOfTheirReads) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  lane->Post(Pages(40, 2));
  lane->Post(Pages(3, 1));
  lane->Post(Pages(100, 64));
  EXPECT_THAT(reading.Reap(*lane, 67),
              ::testing::ElementsAre(Pages(40, 2), Pages(3, 1), Pages(100, 64)));
}

TEST_F(LaneTest, PagesThatTheSourceDoesNotVouchForAreNotRead) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const rdma::RemoteTable unvouched(reading.ram.geometry(), source.regions);
  EXPECT_FALSE(unvouched.RouteOf(Pages(0, 64)).direct);
  EXPECT_EQ(unvouched.RouteOf(Pages(0, 64)).run, Pages(0, 64));
}

/// What sleepers wait for. Not by sleeping: soft RoCE has often brought a page before its
/// doorbell's system call returns.
TEST_F(LaneTest, ACompletionThatWasAskedForIsAnnounced) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  for (uint64_t page = 0; page < 3; ++page) {
    EXPECT_FALSE(lane->AskForEvent());
    lane->Post(Pages(page, 1));
    lane->Flush(rdma::MonotonicNow());
    pollfd announced{.fd = lane->completion_fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&announced, 1, 5000), 1);
    EXPECT_THAT(reading.Reap(*lane, 1), ::testing::ElementsAre(Pages(page, 1)));
  }
}

TEST_F(LaneTest, AThreadThatSleepsIsWokenByACompletion) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  for (uint64_t page = 0; page < 50; ++page) {
    lane->Post(Pages(page, 1));
    ReadySet ready;
    std::array<Arrival, 4> arrivals;
    const Nanos start = rdma::MonotonicNow();
    while (!ready.Has(ReadyToken::kLane)) ready = reading.reactor.Wait(std::chrono::seconds(5));
    ASSERT_LT(rdma::MonotonicNow() - start, std::chrono::seconds(4)) << "page " << page;
    ASSERT_EQ(lane->Reap(arrivals), 1U);
  }
}

}  // namespace
}  // namespace faultline::testing
