#include "engine/core/geometry.h"

#include <gtest/gtest.h>

#include <limits>

namespace faultline {
namespace {

constexpr uint64_t kMiB = 1 << 20;

RegionShape Shape(std::string id, uint64_t bytes, uint64_t page_bytes = 4096) {
  return {std::move(id), ByteCount(bytes), PageSize(page_bytes)};
}

/// Pages 0 … 255 of 4 KiB, then 256 … 259 of 2 MiB, then one of 4 KiB.
Geometry ThreeRegions() {
  return Geometry::Create(
             {Shape("ram0", kMiB), Shape("huge0", 8 * kMiB, 2 * kMiB), Shape("tail", 4096)})
      .value();
}

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

TEST(Geometry, NumbersAllRegionsInOneSpace) {
  const Geometry geometry = ThreeRegions();
  EXPECT_EQ(geometry.page_count(), PageCount(261));
  EXPECT_EQ(geometry.byte_count(), ByteCount(9 * kMiB + 4096));
  EXPECT_EQ(geometry.pages_of(1), Pages(256, 4));
  EXPECT_EQ(geometry.RegionOf(PageIndex(255)), 0u);
  EXPECT_EQ(geometry.RegionOf(PageIndex(256)), 1u);
  EXPECT_EQ(geometry.RegionOf(PageIndex(260)), 2u);
  EXPECT_EQ(geometry.OffsetInRegion(PageIndex(258)), ByteCount(4 * kMiB));
  EXPECT_EQ(geometry.PageSizeOf(PageIndex(259)), PageSize(2 * kMiB));
}

TEST(Geometry, ARunIsRequestableOnlyInsideOneRegionAndWithinTheLimits) {
  const Geometry geometry = ThreeRegions();
  EXPECT_TRUE(geometry.IsRequestable(Pages(0, 64)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(0, 65)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(0, 0)));
  EXPECT_TRUE(geometry.IsRequestable(Pages(255, 1)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(255, 2)));
  EXPECT_TRUE(geometry.IsRequestable(Pages(256, 1)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(256, 2))) << "two huge pages exceed the byte limit";
  EXPECT_FALSE(geometry.IsRequestable(Pages(261, 1)));
}

TEST(Geometry, HostileRunsDoNotOverflow) {
  const Geometry geometry = ThreeRegions();
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  EXPECT_FALSE(geometry.IsRequestable(Pages(kMax, 1)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(0, kMax)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(1, kMax)));
  EXPECT_FALSE(geometry.IsRequestable(Pages(kMax - 1, 2)));
}

TEST(Geometry, TheLongestRequestableRunStopsAtTheRegionTheEndAndTheLimit) {
  const Geometry geometry = ThreeRegions();
  const PageIndex end(261);
  EXPECT_EQ(geometry.RequestableFrom(PageIndex(0), end), Pages(0, 64));
  EXPECT_EQ(geometry.RequestableFrom(PageIndex(250), end), Pages(250, 6));
  EXPECT_EQ(geometry.RequestableFrom(PageIndex(256), end), Pages(256, 1));
  EXPECT_EQ(geometry.RequestableFrom(PageIndex(10), PageIndex(12)), Pages(10, 2));
}

TEST(Geometry, RefusesWhatIsNotARegionList) {
  EXPECT_FALSE(Geometry::Create({}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("", 4096)}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape(std::string(64, 'x'), 4096)}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("a", 0)}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("a", 4097)}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("a", kMiB, 2 * kMiB)}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("a", 4096, 1000)}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("a", ~uint64_t{4095})}).has_value());
  EXPECT_FALSE(Geometry::Create({Shape("a", 4096), Shape("a", 4096)}).has_value());
  EXPECT_FALSE(Geometry::Create(std::vector<RegionShape>(65, Shape("a", 4096))).has_value());
}

TEST(Geometry, NamesTheFirstDifference) {
  const auto one = Geometry::Create({Shape("ram0", kMiB)}).value();
  EXPECT_EQ(one.DifferenceTo(one), "");
  const auto differs = [&](RegionShape shape) {
    return one.DifferenceTo(Geometry::Create({std::move(shape)}).value());
  };
  EXPECT_NE(differs(Shape("ram1", kMiB)).find("ram1"), std::string::npos);
  EXPECT_NE(differs(Shape("ram0", 2 * kMiB)).find("2097152"), std::string::npos);
  EXPECT_NE(differs(Shape("ram0", kMiB, 65536)).find("65536"), std::string::npos);
  EXPECT_NE(one.DifferenceTo(ThreeRegions()).find("3"), std::string::npos);
}

TEST(AddressMap, GoesThereAndBack) {
  const Geometry geometry = ThreeRegions();
  const VmmMap map(geometry, {VmmAddr(0x10000000), VmmAddr(0x70000000), VmmAddr(0x1000)});
  EXPECT_EQ(map.AddrOf(PageIndex(257)), VmmAddr(0x70000000 + 2 * kMiB));
  EXPECT_EQ(map.PageOf(VmmAddr(0x70000000 + 2 * kMiB + 5)), PageIndex(257));
  EXPECT_EQ(map.PageOf(VmmAddr(0x1FFF)), PageIndex(260));
  EXPECT_EQ(map.PageOf(VmmAddr(0x2000)), std::nullopt);
  EXPECT_EQ(map.PageOf(VmmAddr(0x0FFF)), std::nullopt);
  EXPECT_EQ(map.PageOf(VmmAddr(0x10000000 + kMiB)), std::nullopt);
}

}  // namespace
}  // namespace faultline
