#include "engine/core/push_order.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace faultline {
namespace {

Geometry TwoRegions() {
  return Geometry::Create({{"ram0", ByteCount(150 * 4096), PageSize(4096)},
                           {"huge0", ByteCount(3 << 21), PageSize(1 << 21)}})
      .value();
}

TEST(SequentialOrder, ProposesEveryPageOnceInOrderAndOnlyRequestableRuns) {
  const Geometry geometry = TwoRegions();
  SequentialOrder order(geometry);
  PageIndex next(0);
  for (PageRun run = order.Next(); !run.empty(); run = order.Next()) {
    ASSERT_EQ(run.first, next);
    ASSERT_TRUE(geometry.IsRequestable(run));
    next = run.end();
  }
  EXPECT_EQ(next, PageIndex(153));
  EXPECT_TRUE(order.Next().empty());
}

TEST(SequentialOrder, StartsAgainAfterARewind) {
  const Geometry geometry = TwoRegions();
  SequentialOrder order(geometry);
  const PageRun first = order.Next();
  order.Next();
  order.Rewind();
  EXPECT_EQ(order.Next(), first);
}

TEST(SequentialOrder, ThreadsShareOneRound) {
  const auto geometry =
      Geometry::Create({{"ram0", ByteCount(uint64_t{64} * 4096 * 3000), PageSize(4096)}}).value();
  SequentialOrder order(geometry);
  std::atomic<uint64_t> pages{0};
  const auto drain = [&] {
    for (PageRun run = order.Next(); !run.empty(); run = order.Next()) pages += run.count.value();
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(drain);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pages, geometry.page_count().value());
}

}  // namespace
}  // namespace faultline
