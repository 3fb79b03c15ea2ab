// The engine's page tables do not grow with what passes through its aliases.
#include "uffd/page_table_keeper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"

namespace faultline::testing {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kPages = 128 * kMib / 4096;  ///< 256 KiB of page tables
constexpr ByteCount kTablesOfAll{256 * 1024};

/// Guest RAM of two regions with another one's content, opened as the engine does.
class Passing {
 public:
  Passing()
      : memory_({{BackingKind::kTmpfs, kPages / 2, 0}, {BackingKind::kTmpfs, kPages / 2, 3}}),
        ram_(Require(GuestRam::Open(memory_.geometry(), memory_.vm(), RamAccess::kReadWrite))) {
    const std::vector<std::byte> page(4096, std::byte(7));
    for (uint64_t i = 0; i < kPages; ++i) EXPECT_TRUE(ram_.Write(Page(i), page));
  }
  static PageRun Page(uint64_t index) { return {PageIndex(index), PageCount(1)}; }
  [[nodiscard]] const GuestRam& ram() const { return ram_; }
  /// True if the alias shows what the file holds. Not instrumented: a race detector's shadow of the
  /// alias has page tables of its own, many times as many.
  [[nodiscard]] __attribute__((no_sanitize("thread"))) bool Touch(uint64_t index) const {
    return *static_cast<const volatile std::byte*>(ram_.window().BytesOf(Page(index)).data()) ==
           std::byte(7);
  }
  [[nodiscard]] uint64_t TouchAll() const {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < kPages; ++i) wrong += Touch(i) ? 0U : 1U;
    return wrong;
  }

 private:
  OwnMemory memory_;
  GuestRam ram_;
};

size_t CountKeepers() {
  size_t keepers = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name == "fl-page-tables") ++keepers;
  }
  return keepers;
}

size_t CountMappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

TEST(PageTables, OfAnAliasAreGivenBackAndItsMappingStaysOne) {
  const Passing guest;
  const size_t mappings = CountMappings();
  ASSERT_EQ(guest.TouchAll(), 0U);
  const ByteCount touched = PageTableBytes();
  for (uint64_t first = 0; first < kPages; first += 2048) {
    ASSERT_TRUE(guest.ram().DropPageTables({PageIndex(first), PageCount(2048)}));
  }
  EXPECT_LE(PageTableBytes() + ByteCount(kTablesOfAll.value() / 2), touched);
  EXPECT_EQ(CountMappings(), mappings);
  EXPECT_EQ(guest.TouchAll(), 0U);
}

TEST(PageTableKeeper, DropsThemWhenThereAreTooMany) {
  const Passing guest;
  const ByteCount before = PageTableBytes();
  const ByteCount most = before + ByteCount(64 * 1024);
  const PageTableKeeper keeper(
      guest.ram(),
      {.begin_at = most, .end_at = before, .look_every = std::chrono::milliseconds(1)});
  EXPECT_EQ(guest.TouchAll(), 0U);
  EXPECT_TRUE(Eventually([&] { return PageTableBytes() <= most; }));
}

TEST(PageTableKeeper, LeavesAFewAlone) {
  const Passing guest;
  const PageTableKeeper keeper(guest.ram(), {.begin_at = PageTableBytes() + ByteCount(450 * 1024),
                                             .look_every = std::chrono::milliseconds(1)});
  EXPECT_EQ(guest.TouchAll(), 0U);
  const ByteCount touched = PageTableBytes();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GE(PageTableBytes(), touched);  // a sanitizer adds tables of its own
}

TEST(PageTableKeeper, WakesNobodyUpForAGuestThatCannotFillThem) {
  const Passing guest;
  const PageTableKeeper idle(guest.ram());
  EXPECT_EQ(CountKeepers(), 0U);
  const PageTableKeeper needed(guest.ram(), {.begin_at = PageTableBytes()});
  EXPECT_EQ(CountKeepers(), 1U);
}

TEST(PageTableKeeper, DisturbsNobodyWhoUsesTheAliasMeanwhile) {
  const Passing guest;
  const PageTableKeeper keeper(guest.ram(), {.begin_at = ByteCount(0),
                                             .end_at = ByteCount(0),
                                             .look_every = std::chrono::nanoseconds(1)});
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) wrong += guest.TouchAll();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace faultline::testing
