// Private memory: landing in staging, placing with UFFDIO_COPY.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <future>
#include <string>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"
#include "uffd/uffd_copy_placer.h"

namespace faultline::testing {
namespace {

constexpr PageIndex Page(uint64_t n) { return PageIndex(n); }
constexpr PageRun Pages(uint64_t first, uint64_t count) { return {Page(first), PageCount(count)}; }
constexpr ByteCount kLength{16 * 4096};

class CopyPlacer : public ::testing::Test {
 protected:
  GuestMapping memory_{-1, kLength, ByteCount(0), MAP_PRIVATE | MAP_ANONYMOUS};
  VmmAddr base_{reinterpret_cast<uint64_t>(memory_.bytes())};
  Geometry geometry_ = Require(Geometry::Create({{"ram0", kLength, PageSize(4096)}}));
  VmmMap map_{geometry_, {base_}};
  UserfaultFd uffd_ = Require(UserfaultFd::CreateForThisProcess());
  UffdCopyPlacer placer_ = Require(UffdCopyPlacer::Create(uffd_, map_));
  UffdFaultSource source_{uffd_, map_, -1};

  void SetUp() override { Require(uffd_.Register(base_, kLength, UffdMode::kMissing)); }

  void Land(PageIndex page, int value) {
    std::memset(placer_.staging().BytesOf({page, PageCount(1)}).data(), value, 4096);
  }
  std::byte* At(uint64_t page) { return memory_.bytes() + page * 4096; }
  std::future<int> Load(uint64_t page) {
    const volatile std::byte* address = At(page);
    return std::async(std::launch::async, [address] { return static_cast<int>(*address); });
  }
  void AwaitAFault() {
    while (source_.Read().faults.empty()) ::usleep(1000);
  }
  /// Of the staging memory: what it occupies now.
  uint64_t StagingPages() {
    unsigned char resident[16] = {};
    ::mincore(reinterpret_cast<void*>(placer_.staging().base(0).value()), kLength.value(),
              resident);
    return static_cast<uint64_t>(std::count(resident, resident + 16, 1));
  }
};

TEST_F(CopyPlacer, CopiesALandedPageAndWakesItsWaiter) {
  auto load = Load(3);
  AwaitAFault();
  Land(Page(3), 0x5A);
  EXPECT_EQ(placer_.MapHeld(Pages(3, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(load.get(), 0x5A);
}

TEST_F(CopyPlacer, GivesStagingMemoryBackOncePlaced) {
  for (uint64_t n = 0; n < 16; ++n) Land(Page(n), static_cast<int>(n));
  EXPECT_EQ(StagingPages(), 16U);
  EXPECT_EQ(placer_.MapHeld(Pages(0, 16)), PlaceResult::kPlaced);
  EXPECT_EQ(StagingPages(), 0U);
  for (uint64_t n = 0; n < 16; ++n) EXPECT_EQ(*At(n), std::byte(n));
}

TEST_F(CopyPlacer, NeverOverwritesWhatIsMapped) {
  Land(Page(2), 1);
  ASSERT_EQ(placer_.MapHeld(Pages(2, 1)), PlaceResult::kPlaced);
  for (uint64_t n = 0; n < 4; ++n) Land(Page(n), 2);
  EXPECT_EQ(placer_.MapHeld(Pages(0, 4)), PlaceResult::kAlreadyPresent);
  EXPECT_EQ(*At(1), std::byte(2));
  EXPECT_EQ(*At(2), std::byte(1));
  EXPECT_EQ(*At(3), std::byte(2));
}

TEST_F(CopyPlacer, MapsZeroWhateverStagingHolds) {
  Land(Page(4), 0xEE);
  auto load = Load(4);
  AwaitAFault();
  placer_.Empty(Pages(4, 1));
  EXPECT_EQ(placer_.MapZero(Pages(4, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(load.get(), 0);
}

TEST_F(CopyPlacer, MapsAFreshZeroPageAfterADiscard) {
  Land(Page(5), 7);
  ASSERT_EQ(placer_.MapHeld(Pages(5, 1)), PlaceResult::kPlaced);
  std::thread discarder([&] { ::madvise(At(5), 4096, MADV_DONTNEED); });
  while (source_.Read().removed.empty()) ::usleep(1000);
  discarder.join();
  auto load = Load(5);
  AwaitAFault();
  EXPECT_EQ(placer_.MapAgain(Pages(5, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(load.get(), 0);
}

TEST_F(CopyPlacer, KeepsTheBytesWhenItHasToBeAskedAgain) {
  Land(Page(0), 3);
  std::thread discarder([&] { ::madvise(At(9), 4096, MADV_DONTNEED); });
  PlaceResult result = PlaceResult::kPlaced;
  for (int i = 0; i < 5000 && result != PlaceResult::kRetry; ++i) {
    ::usleep(1000);
    result = placer_.MapZero(Pages(9, 1));
  }
  EXPECT_EQ(placer_.MapHeld(Pages(0, 1)), PlaceResult::kRetry);
  while (source_.Read().removed.empty()) ::usleep(1000);
  discarder.join();
  EXPECT_EQ(placer_.MapHeld(Pages(0, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(*At(0), std::byte(3));
}

}  // namespace
}  // namespace faultline::testing
