#include "engine/core/shard_map.h"

#include <gtest/gtest.h>

#include <set>

namespace faultline {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

Geometry OneRegion(uint64_t bytes, uint64_t page_bytes = 4096) {
  return Geometry::Create({{"ram0", ByteCount(bytes), PageSize(page_bytes)}}).value();
}

Geometry ThreeRegions() {
  return Geometry::Create({{"ram0", ByteCount(5 * kMiB), PageSize(4096)},
                           {"huge0", ByteCount(8 * kMiB), PageSize(2 * kMiB)},
                           {"tail", ByteCount(4096), PageSize(4096)}})
      .value();
}

TEST(ShardMap, OneShardHasEveryRegionWhole) {
  const Geometry geometry = ThreeRegions();
  const ShardMap map(geometry, 1);
  EXPECT_EQ(map.Stripes(), (std::vector<PageRun>{geometry.pages_of(0), geometry.pages_of(1),
                                                 geometry.pages_of(2)}));
  EXPECT_EQ(map.ShardOf(PageIndex(1283)), 0u);
}

TEST(ShardMap, StripesCoverEveryPageOnceAndAgreeWithShardOf) {
  const Geometry geometry = ThreeRegions();
  const ShardMap map(geometry, 3);
  PageIndex next(0);
  for (const PageRun& stripe : map.Stripes()) {
    EXPECT_EQ(stripe.first, next);
    EXPECT_EQ(geometry.RegionOf(stripe.first),
              geometry.RegionOf(PageIndex(stripe.end().value() - 1)));
    for (PageIndex page = stripe.first; page < stripe.end(); ++page) {
      ASSERT_EQ(map.ShardOf(page), map.ShardOf(stripe.first)) << page.value();
    }
    next = stripe.end();
  }
  EXPECT_EQ(next, PageIndex(geometry.page_count().value()));
}

TEST(ShardMap, NeighbouringStripesBelongToDifferentShards) {
  const Geometry geometry = OneRegion(64 * kMiB);
  const ShardMap map(geometry, 2);
  EXPECT_EQ(map.Stripes().size(), 32u);
  EXPECT_EQ(map.ShardOf(PageIndex(511)), 0u);
  EXPECT_EQ(map.ShardOf(PageIndex(512)), 1u);
  EXPECT_EQ(map.ShardOf(PageIndex(1024)), 0u);
}

TEST(ShardMap, ARunIsCutWhereTheShardEnds) {
  const Geometry geometry = OneRegion(64 * kMiB);
  const ShardMap map(geometry, 2);
  EXPECT_EQ(map.InOneShard({PageIndex(500), PageCount(64)}),
            (PageRun{PageIndex(500), PageCount(12)}));
  EXPECT_EQ(map.InOneShard({PageIndex(512), PageCount(64)}),
            (PageRun{PageIndex(512), PageCount(64)}));
}

TEST(ShardMap, ALargeGuestHasNotManyStripesAndEveryShardItsShare) {
  const Geometry geometry = OneRegion(512 * kGiB);
  const ShardMap map(geometry, 16);
  const std::vector<PageRun> stripes = map.Stripes();
  EXPECT_LE(stripes.size(), ShardMap::kStripesMax);
  std::set<size_t> shards;
  for (const PageRun& stripe : stripes) shards.insert(map.ShardOf(stripe.first));
  EXPECT_EQ(shards.size(), 16u);
}

TEST(ShardMap, AStripeIsAtLeastOneHugePage) {
  const Geometry geometry = OneRegion(4 * kGiB, kGiB);
  const ShardMap map(geometry, 2);
  EXPECT_EQ(map.Stripes().size(), 4u);
  EXPECT_EQ(map.ShardOf(PageIndex(3)), 1u);
}

}  // namespace
}  // namespace faultline
