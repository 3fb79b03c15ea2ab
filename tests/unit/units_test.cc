#include "engine/core/units.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace faultline {
namespace {

template <class A, class B>
concept Addable = requires(A a, B b) {
  a + b;
};

TEST(Units, KindsDoNotMix) {
  static_assert(!Addable<PageCount, ByteCount>);
  static_assert(!Addable<PageIndex, ByteCount>);
  static_assert(!Addable<PageIndex, PageIndex>);
  static_assert(!Addable<VmmAddr, PageCount>);
  static_assert(!std::is_convertible_v<uint64_t, PageIndex>);
  static_assert(!std::is_convertible_v<VmmAddr, HostAddr>);
}

TEST(Units, PlacesDifferByACount) {
  EXPECT_EQ(PageIndex(7) - PageIndex(3), PageCount(4));
  EXPECT_EQ(PageIndex(3) + PageCount(4), PageIndex(7));
  EXPECT_EQ(PageCount(3) * PageSize(4096), ByteCount(12288));
}

TEST(Units, ARunHoldsItsFirstPageAndNotItsEnd) {
  const PageRun run{PageIndex(5), PageCount(2)};
  EXPECT_FALSE(run.Contains(PageIndex(4)));
  EXPECT_TRUE(run.Contains(PageIndex(5)));
  EXPECT_TRUE(run.Contains(PageIndex(6)));
  EXPECT_FALSE(run.Contains(run.end()));
  EXPECT_TRUE(PageRun{}.empty());
}

TEST(Units, PageSizesArePowersOfTwoFrom4KiBTo1GiB) {
  EXPECT_TRUE(PageSize(4096).valid());
  EXPECT_TRUE(PageSize(1 << 30).valid());
  EXPECT_FALSE(PageSize(0).valid());
  EXPECT_FALSE(PageSize(2048).valid());
  EXPECT_FALSE(PageSize(12288).valid());
  EXPECT_FALSE(PageSize(uint64_t{1} << 31).valid());
}

}  // namespace
}  // namespace faultline
