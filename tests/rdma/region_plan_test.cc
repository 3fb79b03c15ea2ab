// What becomes a memory region.
#include "rdma/region_plan.h"

#include <gmock/gmock.h>

#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

using ::testing::ElementsAre;

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }
ByteCount PagesBytes(uint64_t count) { return ByteCount(count * 4096); }

class RegionPlanTest : public ::testing::Test {
 protected:
  Geometry geometry_ =
      Require(Geometry::Create({{"ram0", ByteCount(1000 * 4096), PageSize(4096)},
                                {"huge0", ByteCount(4 << 21), PageSize(1 << 21)}}));
};

TEST_F(RegionPlanTest, RunsAreCutAtMultiplesOfTheSize) {
  const std::vector<PageRun> runs{Pages(5, 30)};
  EXPECT_THAT(rdma::CutIntoPieces(geometry_, runs, PagesBytes(16)),
              ElementsAre(Pages(5, 11), Pages(16, 16), Pages(32, 3)));
}

TEST_F(RegionPlanTest, APageThatIsLargerIsAPieceOfItsOwn) {
  const std::vector<PageRun> runs{Pages(1001, 2)};
  EXPECT_THAT(rdma::CutIntoPieces(geometry_, runs, PagesBytes(16)),
              ElementsAre(Pages(1001, 1), Pages(1002, 1)));
}

TEST_F(RegionPlanTest, WhatIsTooSmallOrTooLargeIsLeftOut) {
  const rdma::RegionLimits limits{PagesBytes(4), PagesBytes(16), 100};
  EXPECT_THAT(rdma::ChooseRegions(geometry_, {Pages(0, 3), Pages(8, 4), Pages(1001, 1)}, limits),
              ElementsAre(Pages(8, 4)));
}

TEST_F(RegionPlanTest, OfTooManyTheLongestAreTakenInTheirOrder) {
  const rdma::RegionLimits limits{PagesBytes(1), PagesBytes(16), 2};
  EXPECT_THAT(rdma::ChooseRegions(geometry_, {Pages(0, 8), Pages(20, 2), Pages(40, 9)}, limits),
              ElementsAre(Pages(0, 8), Pages(40, 9)));
}

TEST_F(RegionPlanTest, ALargerGuestHasLargerRegions) {
  EXPECT_EQ(rdma::RegionBytesFor(ByteCount(1 << 30), ByteCount(16 << 20), 1024),
            ByteCount(16 << 20));
  EXPECT_EQ(rdma::RegionBytesFor(ByteCount(uint64_t{16} << 30), ByteCount(16 << 20), 1024),
            ByteCount(32 << 20));
}

}  // namespace
}  // namespace faultline::testing
