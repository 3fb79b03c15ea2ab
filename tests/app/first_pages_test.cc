#include "engine/app/first_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

Geometry TwoRegions() {
  return Geometry::Create({{"ram0", ByteCount(100 * 4096), PageSize(4096)},
                           {"huge0", ByteCount(3 << 21), PageSize(1 << 21)}})
      .value();
}

std::vector<PageRun> Runs(const std::vector<RamPlace>& places) {
  return RunsOf(places, TwoRegions());
}

TEST(RunsOf, PutsNeighboursIntoOneRunWhateverTheirOrder) {
  EXPECT_THAT(Runs({{0, ByteCount(3 * 4096)}, {0, ByteCount(7 * 4096)}, {0, ByteCount(2 * 4096)}}),
              ElementsAre(Pages(2, 2), Pages(7, 1)));
}

TEST(RunsOf, NamesAPageOnceHoweverManyPlacesItHolds) {
  EXPECT_THAT(Runs({{1, ByteCount(4096)}, {1, ByteCount(8192)}, {0, ByteCount(0)}, {0, {}}}),
              ElementsAre(Pages(0, 1), Pages(100, 1)));
}

TEST(RunsOf, DoesNotCrossFromOneRegionIntoTheNext) {
  EXPECT_THAT(Runs({{0, ByteCount(99 * 4096)}, {1, {}}}), ElementsAre(Pages(99, 1), Pages(100, 1)));
}

TEST(RunsOf, OfNothingIsNothing) { EXPECT_THAT(Runs({}), IsEmpty()); }

}  // namespace
}  // namespace faultline
