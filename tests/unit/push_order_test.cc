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

std::vector<PageRun> Drain(PushOrder& order) {
  std::vector<PageRun> runs;
  for (PageRun run = order.Next(); !run.empty(); run = order.Next()) runs.push_back(run);
  return runs;
}

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

TEST(SequentialOrder, ProposesTheWholeRunsThatHoldDataFirstAndEverythingAfterwards) {
  const Geometry geometry = TwoRegions();
  SequentialOrder order(geometry);
  const std::vector<PageRun> everything = Drain(order);
  order.Rewind();
  const std::vector<PageRun> data = {Pages(70, 1), Pages(72, 3), Pages(140, 10), Pages(151, 1)};
  order.PutFirst(data);
  std::vector<PageRun> expected = {Pages(64, 64), Pages(128, 22), Pages(151, 1)};
  expected.insert(expected.end(), everything.begin(), everything.end());
  EXPECT_EQ(Drain(order), expected);
}

TEST(SequentialOrder, LeavesOutRunsBetweenDataThatLiesFarApart) {
  const auto geometry = Geometry::Create({{"ram0", ByteCount(640 * 4096), PageSize(4096)}}).value();
  SequentialOrder order(geometry);
  const std::vector<PageRun> data = {Pages(0, 65), Pages(600, 1)};
  order.PutFirst(data);
  EXPECT_EQ(order.Next(), Pages(0, 64));
  EXPECT_EQ(order.Next(), Pages(64, 64));
  EXPECT_EQ(order.Next(), Pages(576, 64));
  EXPECT_EQ(order.Next(), Pages(0, 64));
}

TEST(SequentialOrder, WithoutDataIsTheSameAsBefore) {
  const Geometry geometry = TwoRegions();
  SequentialOrder order(geometry);
  order.PutFirst({});
  EXPECT_EQ(order.Next(), Pages(0, 64));
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

TEST(LeadingOrder, ProposesWhatWasPutInItsOrderAndThenTheRest) {
  const Geometry geometry = TwoRegions();
  SequentialOrder rest(geometry);
  LeadingOrder order(geometry, rest);
  const std::vector<PageRun> surest = {Pages(20, 70), Pages(151, 2)};
  const std::vector<PageRun> likely = {Pages(3, 1)};
  order.Put(surest);
  order.Put(likely);
  EXPECT_EQ(order.Next(), Pages(20, 64));
  EXPECT_EQ(order.Next(), Pages(84, 6));
  EXPECT_EQ(order.Next(), Pages(151, 1));
  EXPECT_EQ(order.Next(), Pages(152, 1));
  EXPECT_TRUE(order.IsUrgent());
  EXPECT_EQ(order.Next(), Pages(3, 1));
  EXPECT_FALSE(order.IsUrgent());
  EXPECT_EQ(order.Next(), Pages(0, 64));
}

TEST(LeadingOrder, ARewindBringsOnlyTheRestAgain) {
  const Geometry geometry = TwoRegions();
  SequentialOrder rest(geometry);
  LeadingOrder order(geometry, rest);
  const std::vector<PageRun> first = {Pages(20, 1)};
  order.Put(first);
  Drain(order);
  order.Rewind();
  EXPECT_FALSE(order.IsUrgent());
  EXPECT_EQ(order.Next(), Pages(0, 64));
}

TEST(LeadingOrder, APeerThatCallsEverythingUrgentIsNotBelieved) {
  const auto geometry =
      Geometry::Create({{"ram0", ByteCount(uint64_t{64} * 4096 * 3000), PageSize(4096)}}).value();
  SequentialOrder rest(geometry);
  LeadingOrder order(geometry, rest);
  const std::vector<PageRun> all = {Pages(0, geometry.page_count().value())};
  order.Put(all);
  uint64_t urgent = 0;
  for (; order.IsUrgent(); ++urgent) order.Next();
  EXPECT_EQ(urgent * 64, LeadingOrder::kPagesMax.value());
}

}  // namespace
}  // namespace faultline
