// What may be read without asking, and from where.
#include "rdma/remote_table.h"

#include <gtest/gtest.h>

#include "engine/core/geometry.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

class RemoteTableTest : public ::testing::Test {
 protected:
  Geometry geometry_ = Require(Geometry::Create({{"ram0", ByteCount(100 * 4096), PageSize(4096)}}));
  rdma::RemoteTable table_{geometry_, {{Pages(10, 10), 0x10000, 7}, {Pages(20, 5), 0x90000, 8}}};
};

TEST_F(RemoteTableTest, NothingIsReadBeforeItIsVouchedFor) {
  EXPECT_FALSE(table_.RouteOf(Pages(12, 3)).direct);
}

TEST_F(RemoteTableTest, PagesOutsideOfRegionsGoTogetherUpToTheNextRegion) {
  table_.MarkCurrent(Pages(0, 100));
  const Route route = table_.RouteOf(Pages(4, 20));
  EXPECT_FALSE(route.direct);
  EXPECT_EQ(route.run, Pages(4, 6));
  EXPECT_EQ(table_.RouteOf(Pages(25, 20)).run, Pages(25, 20));
}

TEST_F(RemoteTableTest, AReadNeverCrossesFromOneRegionIntoTheNext) {
  table_.MarkCurrent(Pages(0, 100));
  const Route route = table_.RouteOf(Pages(15, 10));
  EXPECT_TRUE(route.direct);
  EXPECT_EQ(route.run, Pages(15, 5));
}

TEST_F(RemoteTableTest, AReadEndsWhereTheSourceDoesNotVouch) {
  table_.MarkCurrent(Pages(10, 3));
  EXPECT_EQ(table_.RouteOf(Pages(11, 8)).run, Pages(11, 2));
  const Route behind = table_.RouteOf(Pages(13, 10));
  EXPECT_FALSE(behind.direct);
  EXPECT_EQ(behind.run, Pages(13, 7));
}

TEST_F(RemoteTableTest, AnAddressIsThatOfThePageInItsRegion) {
  EXPECT_EQ(table_.TargetOf(PageIndex(10)).address, 0x10000U);
  EXPECT_EQ(table_.TargetOf(PageIndex(19)).address, 0x10000U + 9 * 4096);
  EXPECT_EQ(table_.TargetOf(PageIndex(19)).key, 7U);
  EXPECT_EQ(table_.TargetOf(PageIndex(20)).address, 0x90000U);
  EXPECT_EQ(table_.TargetOf(PageIndex(20)).key, 8U);
}

}  // namespace
}  // namespace faultline::testing
