// The page ledger: the one authority on every page, at the destination.
//
// One atomic byte per page: the state (page_life.h) in the low bits and two marks above it.
//   kWaiterMark   somebody in the guest sleeps on this page: whoever completes it wakes it at once
//   kTouchedMark  bytes may lie in the alias (a broken landing, memory allocated ahead of need):
//                 the page must be emptied before it may become a Hole
// Zeroed storage is a fresh ledger, so a sparse file of zeroes is one too.
//
// Threads: every method may be called from any thread. Each is one compare-and-swap per page;
// exactly one caller wins each transition. No method allocates, locks or waits.
// Ownership: the storage belongs to the caller and outlives the ledger.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "engine/core/page_life.h"
#include "engine/core/units.h"

namespace faultline {

class Ledger {
 public:
  using Cell = std::atomic<uint8_t>;
  static_assert(sizeof(Cell) == 1 && Cell::is_always_lock_free);

  static constexpr uint8_t kStateBits = 0x0F;
  static constexpr uint8_t kTouchedMark = 0x40;
  static constexpr uint8_t kWaiterMark = 0x80;

  /// What a transition did. `before == after` only where the table says so.
  struct Change {
    bool legal = false;  ///< false: the state did not allow the event and nothing happened
    PageState before = PageState::kAbsent;
    PageState after = PageState::kAbsent;
    bool had_waiter = false;   ///< the mark as it was; kMap and a landing as Released clear it
    bool was_touched = false;  ///< the mark as it was
  };

  /// Counts what is missing in `cells` (all of it, for fresh storage).
  explicit Ledger(std::span<Cell> cells);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  [[nodiscard]] PageCount page_count() const { return PageCount(cells_.size()); }
  [[nodiscard]] PageState State(PageIndex page) const;
  [[nodiscard]] bool HasWaiter(PageIndex page) const;

  /// Absent + Requested + Discarding. The migration is over when it reaches zero.
  [[nodiscard]] PageCount missing() const {
    return PageCount(missing_.load(std::memory_order_acquire));
  }

  /// The transition of page_life.h. kLaneQuiet to Absent sets kTouchedMark; the waiter mark stays
  /// until the page is mapped.
  Change Apply(PageIndex page, PageEvent event);

  /// Claims the longest prefix of `run` that is Absent; empty if its first page is not.
  PageRun ClaimPrefix(PageRun run);

  /// A fault: marks a waiter where bytes are landing, claims where the page is Absent (and marks),
  /// and otherwise only reports. `before` is the state that the fault met.
  Change OnFault(PageIndex page);

  /// Clears the waiter mark and says whether it was set.
  bool TakeWaiter(PageIndex page);

  /// Memory was put into the alias ahead of need.
  void MarkTouched(PageRun run);

  /// After the death of the engine that wrote this ledger: nothing lands any more, so Requested
  /// returns to Absent and Discarding to Released. REQUIRES: no other user of the storage.
  void RecoverAfterCrash();

  /// How many pages are in each state. Walks the ledger: for progress and reports only.
  struct Census {
    uint64_t count[kPageStateCount] = {};
  };
  [[nodiscard]] Census TakeCensus() const;

 private:
  std::span<Cell> cells_;
  std::atomic<uint64_t> missing_{0};
};

}  // namespace faultline
