// The ledger under real threads: what the simulation cannot show, because it runs on one.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/core/ledger.h"
#include "engine/core/waiter_table.h"

namespace faultline {
namespace {

constexpr size_t kThreads = 4;
constexpr uint64_t kPages = 20'000;

template <class Body>
void InThreads(Body body) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

TEST(LedgerThreads, EveryPageIsClaimedByExactlyOneThread) {
  std::vector<Ledger::Cell> cells(kPages);
  Ledger ledger(cells);
  std::vector<std::atomic<int>> claims(kPages);
  InThreads([&](size_t thread) {
    const uint64_t length = 3 + 2 * thread;  // the runs of two threads never lie the same
    for (uint64_t first = 0; first < kPages; ++first) {
      const PageCount count(std::min<uint64_t>(length, kPages - first));
      const PageRun claimed = ledger.ClaimPrefix({PageIndex(first), count});
      for (uint64_t i = 0; i < claimed.count.value(); ++i) ++claims[first + i];
    }
  });
  const auto once = [](const std::atomic<int>& n) { return n.load() == 1; };
  EXPECT_TRUE(std::all_of(claims.begin(), claims.end(), once));
  EXPECT_EQ(ledger.missing(), PageCount(kPages));
}

// Each page: one thread claims and lands it, others fault on it. Whatever the interleaving, the
// waiter is taken by somebody who may place the page, or seen at the end of a placing.
TEST(LedgerThreads, NoWaiterIsEverLeftBehind) {
  std::vector<Ledger::Cell> cells(kPages);
  Ledger ledger(cells);
  std::vector<std::atomic<int>> served(kPages);
  const auto settle = [&](PageIndex page) {
    const Ledger::Change begun = ledger.BeginPlacingAwaited(page);
    served[page.value()] += begun.legal ? 1 : 0;
    served[page.value()] += begun.legal && ledger.Apply(page, PageEvent::kMap).had_waiter ? 1 : 0;
  };
  InThreads([&](size_t thread) {
    for (uint64_t i = 0; i < kPages; ++i) {
      const PageIndex page(thread % 2 == 0 ? i : kPages - 1 - i);
      const Ledger::Change change = ledger.OnFault(page, true);
      const bool claimed =
          change.before == PageState::kAbsent && change.after == PageState::kRequested;
      if (claimed) ledger.Apply(page, PageEvent::kLand);
      settle(page);
    }
  });
  uint64_t left = 0;
  for (uint64_t i = 0; i < kPages; ++i) {
    left += uint64_t{ledger.HasWaiter(PageIndex(i)) || served[i] == 0};
  }
  EXPECT_EQ(left, 0u);
  EXPECT_EQ(ledger.missing(), PageCount(0));
}

TEST(LedgerThreads, MissingReachesZeroWhateverTheOrder) {
  std::vector<Ledger::Cell> cells(kPages);
  Ledger ledger(cells);
  InThreads([&](size_t thread) {
    for (uint64_t i = 0; i < kPages; ++i) {
      const PageIndex page((i * 7919 + thread * 31) % kPages);
      ledger.Apply(page, PageEvent::kClaim);
      ledger.Apply(page, thread == 0 ? PageEvent::kRemove : PageEvent::kFoundEmpty);
      ledger.Apply(page, PageEvent::kLand);
    }
  });
  EXPECT_EQ(ledger.missing(), PageCount(0));
}

TEST(WaiterTableThreads, EveryPageAddedIsRemovedExactlyOnce) {
  WaiterTable table;
  std::atomic<uint64_t> removed{0};
  InThreads([&](size_t thread) {
    for (uint64_t i = 0; i < kPages; ++i) {
      const PageIndex mine(i * kThreads + thread);
      table.Add(mine, Nanos(1));
      removed += uint64_t{table.Remove(mine).has_value()};
    }
  });
  EXPECT_EQ(removed, kPages * kThreads);
  EXPECT_EQ(table.size(), 0u);
}

}  // namespace
}  // namespace faultline
