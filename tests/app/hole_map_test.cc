#include "engine/app/hole_map.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

/// Two regions of four pages each.
Geometry TwoRegions() {
  return Geometry::Create({{"a", ByteCount(4 * 4096), PageSize(4096)},
                           {"b", ByteCount(4 * 4096), PageSize(4096)}})
      .value();
}

TEST(HoleMapTest, WithoutDataEachRegionIsOneHole) {
  EXPECT_EQ(HolesBetween(TwoRegions(), {}), (std::vector{Pages(0, 4), Pages(4, 4)}));
}

TEST(HoleMapTest, FullRegionsHaveNoHole) {
  const std::vector data{Pages(0, 4), Pages(4, 4)};
  EXPECT_TRUE(HolesBetween(TwoRegions(), data).empty());
}

TEST(HoleMapTest, HolesLieBeforeBetweenAndBehindTheData) {
  const std::vector data{Pages(1, 1), Pages(3, 1), Pages(5, 2)};
  EXPECT_EQ(HolesBetween(TwoRegions(), data),
            (std::vector{Pages(0, 1), Pages(2, 1), Pages(4, 1), Pages(7, 1)}));
}

TEST(HoleMapTest, NoHoleCrossesFromOneRegionIntoTheNext) {
  const std::vector data{Pages(0, 2), Pages(6, 2)};
  EXPECT_EQ(HolesBetween(TwoRegions(), data), (std::vector{Pages(2, 2), Pages(4, 2)}));
}

}  // namespace
}  // namespace faultline
