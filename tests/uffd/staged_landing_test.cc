// Landing by way of a staging buffer: where the bytes are before and after.
#include "uffd/staged_landing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

constexpr PageRun Pages(uint64_t first, uint64_t count) {
  return {PageIndex(first), PageCount(count)};
}

class StagedLandingOn : public ::testing::TestWithParam<BackingKind> {
 protected:
  void SetUp() override {
    const std::string reason = WhyUnavailable(GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
    memory_.emplace(std::vector<RegionPlan>{{GetParam(), 8, 3}});
    ram_.emplace(
        Require(GuestRam::Open(memory_->geometry(), memory_->vm(), RamAccess::kReadWrite)));
    area_ = Require(StagedLanding::Create(*ram_));
  }

  std::optional<OwnMemory> memory_;
  std::optional<GuestRam> ram_;
  std::unique_ptr<StagedLanding> area_;
};

INSTANTIATE_TEST_SUITE_P(Each, StagedLandingOn,
                         ::testing::Values(BackingKind::kTmpfs, BackingKind::kHugeTmpfs,
                                           BackingKind::kHugetlbfs),
                         [](const auto& test) { return NameOf(test.param); });

TEST_P(StagedLandingOn, WhatHasLandedIsInTheGuestsFileAndNothingElseHasChanged) {
  const PageRun page = Pages(2, 1);
  const std::span<std::byte> bytes = area_->MemoryOf(page);
  ASSERT_EQ(bytes.size(), memory_->geometry().BytesOf(page).value());
  std::ranges::fill(bytes, std::byte(0x5A));
  ASSERT_TRUE(area_->Land(page, bytes));
  EXPECT_EQ(*memory_->At(PageIndex(2)), std::byte(0x5A));
  EXPECT_EQ(memory_->At(PageIndex(3))[-1], std::byte(0x5A));
  EXPECT_EQ(*memory_->At(PageIndex(1)), std::byte(0));
  EXPECT_EQ(*memory_->At(PageIndex(3)), std::byte(0));
}

class StagedLandingOnTmpfs : public StagedLandingOn {};
INSTANTIATE_TEST_SUITE_P(Each, StagedLandingOnTmpfs, ::testing::Values(BackingKind::kTmpfs),
                         [](const auto& test) { return NameOf(test.param); });

TEST_P(StagedLandingOnTmpfs, WhatHasNotLandedTakesNoMemory) {
  std::ranges::fill(area_->MemoryOf(Pages(0, 8)), std::byte(1));
  EXPECT_EQ(Require(ram_->file(0).AllocatedBytes()), ByteCount(0));
}

TEST_P(StagedLandingOnTmpfs, IsNotFullWhileThereIsRoom) {
  ASSERT_TRUE(area_->Land(Pages(0, 1), area_->MemoryOf(Pages(0, 1))));
  EXPECT_FALSE(area_->full());
}

TEST_P(StagedLandingOnTmpfs, RunsShareTheBuffer) {
  EXPECT_FALSE(area_->HasOwnMemory(Pages(0, 1)));
  EXPECT_EQ(area_->MemoryOf(Pages(0, 1)).data(), area_->MemoryOf(Pages(4, 1)).data());
}

class StagedLandingOnHugePages : public StagedLandingOn {};
INSTANTIATE_TEST_SUITE_P(Each, StagedLandingOnHugePages,
                         ::testing::Values(BackingKind::kHugeTmpfs, BackingKind::kHugetlbfs),
                         [](const auto& test) { return NameOf(test.param); });

TEST_P(StagedLandingOnHugePages, LandsInPlace) {
  const PageRun page = Pages(2, 1);
  EXPECT_EQ(area_->MemoryOf(page).data(), ram_->window().BytesOf(page).data());
  EXPECT_TRUE(area_->HasOwnMemory(page));
  EXPECT_FALSE(area_->full());
}

TEST_P(StagedLandingOnTmpfs, PartsOfARunLandOneByOne) {
  const std::span<std::byte> bytes = area_->MemoryOf(Pages(1, 4));
  std::ranges::fill(bytes, std::byte(3));
  ASSERT_TRUE(area_->Land(Pages(1, 1), bytes.first(4096)));
  ASSERT_TRUE(area_->Land(Pages(3, 2), bytes.subspan(2 * 4096)));
  EXPECT_EQ(*memory_->At(PageIndex(1)), std::byte(3));
  EXPECT_EQ(*memory_->At(PageIndex(2)), std::byte(0));
  EXPECT_EQ(*memory_->At(PageIndex(4)), std::byte(3));
}

}  // namespace
}  // namespace faultline::testing
