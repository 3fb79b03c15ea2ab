// The fault source against the real kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"
#include "uffd/target_process.h"

namespace faultline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr PageIndex Page(uint64_t n) { return PageIndex(n); }
constexpr PageRun Pages(uint64_t first, uint64_t count) { return {Page(first), PageCount(count)}; }

std::vector<PageIndex> PagesOf(std::span<const Fault> faults) {
  std::vector<PageIndex> pages;
  for (const Fault& fault : faults) pages.push_back(fault.page);
  return pages;
}

/// Faults that nobody has read yet, as the kernel counts them (fs/userfaultfd.c, show_fdinfo).
size_t PendingFaults(int uffd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(uffd));
  std::string word;
  size_t pending = 0;
  while (info >> word && word != "pending:") continue;
  info >> pending;
  return pending;
}

/// Threads that load one page each, all asleep when the constructor returns.
class SleepingLoads {
 public:
  SleepingLoads(OwnGuest& guest, const std::vector<uint64_t>& pages) : guest_(guest) {
    for (const uint64_t page : pages) loads_.push_back(guest.Load(Page(page)));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (PendingFaults(guest.source.WaitFd()) < pages.size() &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (const auto& load : loads_) {
      EXPECT_EQ(load.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
    }
  }
  SleepingLoads(const SleepingLoads&) = delete;
  SleepingLoads& operator=(const SleepingLoads&) = delete;
  ~SleepingLoads() {
    guest_.placer.MapZero(guest_.All());
    for (auto& load : loads_) load.wait();
  }

 private:
  OwnGuest& guest_;
  std::vector<std::future<int>> loads_;
};

class FaultSourceTest : public ::testing::Test {
 protected:
  OwnGuest guest_{{{BackingKind::kTmpfs, 256, 0}}};

  /// Runs `call` in a thread, as a guest's VMM would, and gives the batch that it raised.
  template <class Call>
  std::vector<PageRun> RemovedBy(Call call) {
    std::thread caller(call);
    const FaultBatch batch = guest_.NextBatch();
    caller.join();
    return {batch.removed.begin(), batch.removed.end()};
  }
};

TEST_F(FaultSourceTest, HasNothingBeforeAFault) {
  const FaultBatch batch = guest_.source.Read();
  EXPECT_THAT(batch.faults, IsEmpty());
  EXPECT_THAT(batch.removed, IsEmpty());
  EXPECT_FALSE(batch.more);
  EXPECT_FALSE(batch.gone);
}

TEST_F(FaultSourceTest, GivesOneSortedBatchForFaultsOfManyThreads) {
  const SleepingLoads loads(guest_, {200, 3, 77, 4});
  const FaultBatch batch = guest_.source.Read();
  EXPECT_THAT(PagesOf(batch.faults), ElementsAre(Page(3), Page(4), Page(77), Page(200)));
  EXPECT_FALSE(batch.more);
}

TEST_F(FaultSourceTest, NamesAPageOnceHoweverManyThreadsSleepOnIt) {
  const SleepingLoads loads(guest_, {9, 9, 9, 8});
  const FaultBatch batch = guest_.source.Read();
  EXPECT_THAT(PagesOf(batch.faults), ElementsAre(Page(8), Page(9)));
  EXPECT_EQ(guest_.source.counters().faults.load(), 4U);
}

TEST_F(FaultSourceTest, NamesTheThreadThatSleeps) {
  std::promise<int> thread_id;
  const volatile std::byte* address = guest_.At(Page(1));
  std::thread vcpu([&thread_id, address] {
    thread_id.set_value(::gettid());
    (void)*address;
  });
  const FaultBatch batch = guest_.NextBatch();
  ASSERT_EQ(batch.faults.size(), 1U);
  EXPECT_EQ(batch.faults[0].thread, thread_id.get_future().get());
  guest_.placer.MapZero(Pages(1, 1));
  vcpu.join();
}

TEST_F(FaultSourceTest, SaysThatThereIsMoreWhenTheBatchIsFull) {
  std::vector<uint64_t> pages;
  for (uint64_t page = 0; page < UffdFaultSource::kBatchMax + 2; ++page) pages.push_back(page);
  const SleepingLoads loads(guest_, pages);
  const FaultBatch full = guest_.source.Read();
  EXPECT_TRUE(full.more);
  EXPECT_EQ(full.faults.size(), UffdFaultSource::kBatchMax);
  const FaultBatch rest = guest_.source.Read();
  EXPECT_FALSE(rest.more);
  EXPECT_EQ(rest.faults.size(), 2U);
}

TEST_F(FaultSourceTest, ReportsWhatMadviseRemoveGivesUp) {
  const auto removed = RemovedBy([&] { ::madvise(guest_.At(Page(10)), 5 * 4096, MADV_REMOVE); });
  EXPECT_THAT(removed, ElementsAre(Pages(10, 5)));
  EXPECT_EQ(guest_.source.counters().removes.load(), 1U);
}

TEST_F(FaultSourceTest, ReportsWhatMadviseDontneedGivesUp) {
  const auto removed = RemovedBy([&] { ::madvise(guest_.At(Page(0)), 4096, MADV_DONTNEED); });
  EXPECT_THAT(removed, ElementsAre(Pages(0, 1)));
}

TEST_F(FaultSourceTest, TreatsUnmappedPagesAsGivenUp) {
  const auto removed = RemovedBy([&] { ::munmap(guest_.At(Page(250)), 6 * 4096); });
  EXPECT_THAT(removed, ElementsAre(Pages(250, 6)));
  EXPECT_EQ(guest_.source.counters().unmaps.load(), 1U);
  EXPECT_FALSE(guest_.source.layout_changed());
}

TEST_F(FaultSourceTest, ReportsThatGuestRamWasMoved) {
  void* place = ::mmap(nullptr, 8 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  auto moved = std::async(std::launch::async, [&] {
    // What it leaves stays mapped: the fixture unmaps the whole range, and somebody else's memory
    // (a sanitizer's) with it that has come to lie in a hole.
    return ::mremap(guest_.At(Page(248)), 8 * 4096, 8 * 4096,
                    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, place);
  });
  const FaultBatch batch = guest_.NextBatch();
  EXPECT_THAT(std::vector<PageRun>(batch.removed.begin(), batch.removed.end()),
              ElementsAre(Pages(248, 8)));
  EXPECT_TRUE(guest_.source.layout_changed());
  while (StaysAsleep(moved)) guest_.source.Read();
  EXPECT_EQ(moved.get(), place);
  // It took its registration along.
  Require(guest_.uffd.Unregister(VmmAddr(reinterpret_cast<uint64_t>(place)), ByteCount(8 * 4096)));
  ::munmap(place, 8 * 4096);
}

TEST_F(FaultSourceTest, CountsFaultsOutsideTheMapAndLeavesThemAlone) {
  const GuestMapping other(guest_.file(0), ByteCount(4096), ByteCount(0), MAP_SHARED);
  const VmmAddr address(reinterpret_cast<uint64_t>(other.bytes()));
  Require(guest_.uffd.Register(address, ByteCount(4096), UffdMode::kMissingAndMinor));
  std::thread stranger([&] { (void)*const_cast<const volatile std::byte*>(other.bytes()); });
  while (guest_.source.counters().faults_outside.load() == 0) guest_.source.Read();
  Require(guest_.uffd.Unregister(address, ByteCount(4096)));
  stranger.join();
  EXPECT_EQ(guest_.source.counters().faults.load(), 0U);
}

TEST_F(FaultSourceTest, CutsARemovalToWholePagesOfEachRegion) {
  OwnGuest two({{BackingKind::kTmpfs, 4, 0}, {BackingKind::kTmpfs, 4, 2}});
  std::thread caller([&] { ::madvise(two.At(Page(5)), 3 * 4096, MADV_DONTNEED); });
  const FaultBatch batch = two.NextBatch();
  caller.join();
  EXPECT_THAT(std::vector<PageRun>(batch.removed.begin(), batch.removed.end()),
              ElementsAre(Pages(5, 3)));
}

TEST_F(FaultSourceTest, NoticesTheEndOfTheGuestsProcess) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const TargetProcess target = Require(TargetProcess::Open(child));
  UffdFaultSource source(guest_.uffd, guest_.map(), target.pidfd());
  EXPECT_FALSE(source.Read().gone);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_TRUE(source.Read().gone);
}

}  // namespace
}  // namespace faultline::testing
