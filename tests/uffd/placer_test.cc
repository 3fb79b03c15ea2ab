// The placer for shared memory against the real kernel, on every kind of guest RAM.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <thread>

#include "tests/uffd/support/own_guest.h"
#include "uffd/uffd_abi.h"

namespace faultline::testing {
namespace {

constexpr PageIndex Page(uint64_t n) { return PageIndex(n); }
constexpr PageRun Pages(uint64_t first, uint64_t count) { return {Page(first), PageCount(count)}; }

class Placer : public ::testing::TestWithParam<BackingKind> {
 protected:
  void SetUp() override {
    const std::string reason = WhyUnavailable(GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
    guest_.emplace(std::vector<RegionPlan>{{GetParam(), 8, 0}});
  }
  OwnGuest& guest() { return *guest_; }

  /// What another engine thread does between our look and our CONTINUE.
  void MapBehindThePlacersBack(PageIndex page) {
    uffdio_continue request{.range = {.start = guest().map().AddrOf(page).value(),
                                      .len = guest().geometry().PageSizeOf(page).bytes()},
                            .mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
                            .mapped = 0};
    ASSERT_EQ(::ioctl(guest().uffd.fd(), UFFDIO_CONTINUE, &request), 0);
  }
  void PunchAsTheBalloonDoes(PageIndex page) {
    const auto page_bytes = static_cast<off_t>(guest().geometry().PageSizeOf(page).bytes());
    const auto index = static_cast<off_t>(page.value());
    ASSERT_EQ(::fallocate(guest().file(0), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          index * page_bytes, page_bytes),
              0);
  }

 private:
  std::optional<OwnGuest> guest_;
};

INSTANTIATE_TEST_SUITE_P(On, Placer,
                         ::testing::Values(BackingKind::kTmpfs, BackingKind::kHugeTmpfs,
                                           BackingKind::kHugetlbfs),
                         [](const auto& test) { return NameOf(test.param); });

TEST_P(Placer, MapsALandedPageAndWakesItsWaiter) {
  auto load = guest().Load(Page(3));
  guest().AwaitFaultOn(Page(3));
  guest().Land(Page(3), 0x5A);
  EXPECT_EQ(guest().placer.MapHeld(Pages(3, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0x5A);
}

TEST_P(Placer, MapsAWholeRunWithOneAnswer) {
  for (uint64_t n = 0; n < 8; ++n) guest().Land(Page(n), static_cast<int>(n + 1));
  EXPECT_EQ(guest().placer.MapHeld(Pages(0, 8)), PlaceResult::kPlaced);
  for (uint64_t n = 0; n < 8; ++n) EXPECT_EQ(*guest().At(Page(n)), std::byte(n + 1));
}

TEST_P(Placer, GoesOnBehindPagesThatAreMappedAlready) {
  for (uint64_t n = 0; n < 8; ++n) guest().Land(Page(n), static_cast<int>(n + 1));
  MapBehindThePlacersBack(Page(0));
  MapBehindThePlacersBack(Page(4));
  EXPECT_EQ(guest().placer.MapHeld(Pages(0, 8)), PlaceResult::kAlreadyPresent);
  EXPECT_EQ(guest().placer.counters().already_mapped.load(), 2U);
  for (uint64_t n = 0; n < 8; ++n) EXPECT_EQ(*guest().At(Page(n)), std::byte(n + 1));
}

TEST_P(Placer, WakesAWaiterAsleepOnAPageThatIsMappedAlready) {
  auto load = guest().Load(Page(2));
  guest().AwaitFaultOn(Page(2));
  guest().Land(Page(2), 7);
  MapBehindThePlacersBack(Page(2));
  EXPECT_TRUE(StaysAsleep(load));
  EXPECT_EQ(guest().placer.MapHeld(Pages(2, 1)), PlaceResult::kAlreadyPresent);
  EXPECT_EQ(ValueOf(load), 7);
}

TEST_P(Placer, MapsZeroWhereNothingLanded) {
  auto load = guest().Load(Page(1));
  guest().AwaitFaultOn(Page(1));
  EXPECT_EQ(guest().placer.MapZero(Pages(1, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0);
}

TEST_P(Placer, MapsZeroForAWholeRun) {
  EXPECT_EQ(guest().placer.MapZero(Pages(0, 8)), PlaceResult::kPlaced);
  for (uint64_t n = 0; n < 8; ++n) EXPECT_EQ(*guest().At(Page(n)), std::byte(0));
}

TEST_P(Placer, MapsZeroOverAnEmptiedStalePage) {
  guest().Land(Page(1), 0xEE);
  auto load = guest().Load(Page(1));
  guest().AwaitFaultOn(Page(1));
  guest().placer.Empty(Pages(1, 1));
  EXPECT_EQ(guest().placer.MapZero(Pages(1, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0);
}

TEST_P(Placer, MapsZeroWhereThePageCacheHoldsZeroesAlready) {
  guest().Land(Page(1), 0);
  auto load = guest().Load(Page(1));
  guest().AwaitFaultOn(Page(1));
  EXPECT_EQ(guest().placer.MapZero(Pages(1, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0);
}

TEST_P(Placer, MapsAFreshZeroPageWhereTheBalloonPunchedAHeldPage) {
  for (uint64_t n = 0; n < 4; ++n) guest().Land(Page(n), 9);
  PunchAsTheBalloonDoes(Page(1));
  EXPECT_NE(guest().placer.MapHeld(Pages(0, 4)), PlaceResult::kRetry);
  EXPECT_EQ(*guest().At(Page(0)), std::byte(9));
  EXPECT_EQ(*guest().At(Page(1)), std::byte(0));
  EXPECT_EQ(*guest().At(Page(3)), std::byte(9));
}

TEST_P(Placer, MapsAgainWhatThePageCacheStillHas) {
  guest().Land(Page(5), 0x33);
  ASSERT_EQ(guest().placer.MapHeld(Pages(5, 1)), PlaceResult::kPlaced);
  // Drops the page table entry, as swapping does; the event it raises is read by this thread.
  std::thread dropper([&] {
    ::madvise(guest().At(Page(5)), guest().geometry().PageSizeOf(Page(5)).bytes(), MADV_DONTNEED);
  });
  EXPECT_EQ(guest().NextBatch().removed.size(), 1U);
  dropper.join();
  auto load = guest().Load(Page(5));
  guest().AwaitFaultOn(Page(5));
  EXPECT_EQ(guest().placer.MapAgain(Pages(5, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0x33);
}

TEST_P(Placer, MapsAgainAsZeroWhatWasPunchedWithoutAnyEvent) {
  guest().Land(Page(5), 0x33);
  ASSERT_EQ(guest().placer.MapHeld(Pages(5, 1)), PlaceResult::kPlaced);
  PunchAsTheBalloonDoes(Page(5));
  auto load = guest().Load(Page(5));
  guest().AwaitFaultOn(Page(5));
  EXPECT_EQ(guest().placer.MapAgain(Pages(5, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0);
}

TEST_P(Placer, LeavesARetiredRunToTheKernel) {
  auto waiting = guest().Load(Page(1));
  guest().AwaitFaultOn(Page(1));
  for (uint64_t n = 0; n < 4; ++n) guest().Land(Page(n), static_cast<int>(n + 1));
  guest().placer.Retire(Pages(0, 6));
  EXPECT_EQ(ValueOf(waiting), 2);
  for (uint64_t n = 0; n < 4; ++n) EXPECT_EQ(*guest().At(Page(n)), std::byte(n + 1));
  EXPECT_EQ(*guest().At(Page(5)), std::byte(0)) << "nothing ever landed there";
  EXPECT_EQ(guest().placer.MapHeld(Pages(2, 1)), PlaceResult::kAlreadyPresent);
  EXPECT_EQ(guest().placer.MapZero(Pages(4, 1)), PlaceResult::kAlreadyPresent);
  EXPECT_EQ(guest().placer.counters().not_registered.load(), 2U);
  auto behind = guest().Load(Page(6));
  guest().AwaitFaultOn(Page(6));
  EXPECT_EQ(guest().placer.MapZero(Pages(6, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(behind), 0);
}

TEST_P(Placer, AsksForTheEventToBeReadFirst) {
  guest().Land(Page(0), 1);
  std::thread remover([&] {
    ::madvise(guest().At(Page(6)), guest().geometry().PageSizeOf(Page(6)).bytes(), MADV_REMOVE);
  });
  PlaceResult result = PlaceResult::kPlaced;
  // Until the remover sleeps on its unread event, MapHeld still succeeds.
  for (int i = 0; i < 5000 && result != PlaceResult::kRetry; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    result = guest().placer.MapHeld(Pages(0, 1));
  }
  EXPECT_EQ(result, PlaceResult::kRetry);
  const FaultBatch batch = guest().NextBatch();
  ASSERT_EQ(batch.removed.size(), 1U);
  EXPECT_EQ(batch.removed[0], Pages(6, 1));
  remover.join();
  EXPECT_NE(guest().placer.MapHeld(Pages(0, 1)), PlaceResult::kRetry);
  EXPECT_EQ(*guest().At(Page(0)), std::byte(1));
}

TEST_P(Placer, TreatsUnregisteredPagesAsMapped) {
  guest().Land(Page(0), 4);
  const RegionShape& shape = guest().geometry().shape(0);
  ASSERT_TRUE(guest().uffd.Unregister(guest().map().base(0), shape.length).has_value());
  EXPECT_EQ(guest().placer.MapHeld(Pages(0, 2)), PlaceResult::kAlreadyPresent);
  EXPECT_EQ(*guest().At(Page(0)), std::byte(4));
}

TEST_P(Placer, WakesWithoutMapping) {
  auto load = guest().Load(Page(2));
  guest().AwaitFaultOn(Page(2));
  guest().placer.Wake(Pages(2, 1));
  guest().AwaitFaultOn(Page(2));  // it has faulted again
  EXPECT_EQ(guest().placer.MapZero(Pages(2, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 0);
}

TEST_P(Placer, EmptyFreesMemory) {
  guest().Land(Page(0), 1);
  guest().placer.Empty(guest().All());
  EXPECT_EQ(guest().ram.file(0).AllocatedBytes()->value(), 0U);
}

TEST(PlacerAcrossMappings, MapsARunThatCrossesABorderBetweenTwoMappings) {
  OwnGuest guest({{BackingKind::kTmpfs, 8, 0}});
  // mprotect to the same rights but a lock in between splits the kernel's mapping.
  ASSERT_EQ(::madvise(guest.At(Page(4)), 4 * 4096, MADV_DONTDUMP), 0);
  for (uint64_t n = 0; n < 8; ++n) guest.Land(Page(n), static_cast<int>(n + 1));
  EXPECT_NE(guest.placer.MapHeld(Pages(0, 8)), PlaceResult::kRetry);
  for (uint64_t n = 0; n < 8; ++n) EXPECT_EQ(*guest.At(Page(n)), std::byte(n + 1));
  EXPECT_EQ(guest.placer.counters().not_registered.load(), 0U);
}

TEST(PlacerOnHugeFolios, ANeighbourInTheSameFolioIsNeverSeenBeforeItIsMapped) {
  const std::string reason = WhyUnavailable(BackingKind::kHugeTmpfs);
  if (!reason.empty()) GTEST_SKIP() << reason;
  OwnGuest guest({{BackingKind::kHugeTmpfs, 512, 0}});
  guest.Land(Page(0), 1);  // one page lands, and 2 MiB are in the page cache
  EXPECT_EQ(guest.ram.file(0).AllocatedBytes()->value(), 2U << 20);
  ASSERT_EQ(guest.placer.MapHeld(Pages(0, 1)), PlaceResult::kPlaced);
  auto load = guest.Load(Page(1));
  guest.AwaitFaultOn(Page(1));
  guest.Land(Page(1), 2);
  EXPECT_EQ(guest.placer.MapHeld(Pages(1, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(load), 2);
}

TEST(PlacerOnTwoRegions, PlacesEachInItsOwnPageSize) {
  const std::string reason = WhyUnavailable(BackingKind::kHugetlbfs);
  if (!reason.empty()) GTEST_SKIP() << reason;
  OwnGuest guest({{BackingKind::kTmpfs, 16, 0}, {BackingKind::kHugetlbfs, 2, 1}});
  auto small = guest.Load(Page(15));
  guest.AwaitFaultOn(Page(15));
  auto huge = guest.Load(Page(17));
  guest.AwaitFaultOn(Page(17));
  guest.Land(Page(15), 15);
  guest.Land(Page(17), 17);
  EXPECT_EQ(guest.placer.MapHeld(Pages(15, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(guest.placer.MapHeld(Pages(17, 1)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(small), 15);
  EXPECT_EQ(ValueOf(huge), 17);
}

}  // namespace
}  // namespace faultline::testing
