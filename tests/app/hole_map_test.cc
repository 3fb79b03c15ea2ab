#include "engine/app/hole_map.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

PageRun Run(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

/// Two regions of four pages each.
Geometry TwoRegions() {
  return Geometry::Create({{"a", ByteCount(4 * 4096), PageSize(4096)},
                           {"b", ByteCount(4 * 4096), PageSize(4096)}})
      .value();
}

TEST(HoleMapTest, WithoutDataEachRegionIsOneHole) {
  EXPECT_EQ(HolesBetween(TwoRegions(), {}), (std::vector{Run(0, 4), Run(4, 4)}));
}

TEST(HoleMapTest, FullRegionsHaveNoHole) {
  const std::vector data{Run(0, 4), Run(4, 4)};
  EXPECT_TRUE(HolesBetween(TwoRegions(), data).empty());
}

TEST(HoleMapTest, HolesLieBeforeBetweenAndBehindTheData) {
  const std::vector data{Run(1, 1), Run(3, 1), Run(5, 2)};
  EXPECT_EQ(HolesBetween(TwoRegions(), data),
            (std::vector{Run(0, 1), Run(2, 1), Run(4, 1), Run(7, 1)}));
}

TEST(HoleMapTest, NoHoleCrossesFromOneRegionIntoTheNext) {
  const std::vector data{Run(0, 2), Run(6, 2)};
  EXPECT_EQ(HolesBetween(TwoRegions(), data), (std::vector{Run(2, 2), Run(4, 2)}));
}

}  // namespace
}  // namespace faultline
