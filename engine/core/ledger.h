// The page ledger: the one authority on every page, at the destination.
//
// One atomic byte per page: the state (page_life.h) in the low bits and five marks above it.
//   kOvertakableMark  of a Requested or Discarding page: a bulk lane has asked for it, and none of
//                 its bytes lands yet. Who takes the mark away, and nobody else, may let bytes
//                 land: that lane when they come (BeginLanding), or a fault, which then fetches the
//                 page by itself (OnFault); the lane throws its own bytes away. The mark belongs to
//                 no claim in particular: where an urgent lane died, and the page was claimed anew,
//                 a lane that asked earlier may take it. Whoever finds none lands nothing
//   kEarlyMark    of an Absent page: its bytes lie in the alias, from before the source's stop, and
//                 nobody has asked for it since (early_landing.h)
//   kPlacingMark  one thread is inside a call that maps (or empties) this page: nobody else may
//   kTouchedMark  bytes may lie in the alias that the guest must not see (a broken landing, memory
//                 allocated ahead of need): the page must be emptied before it is mapped as zero
//   kWaiterMark   somebody in the guest sleeps on this page: whoever completes it wakes it at once
// Zeroed storage is a fresh ledger, so a sparse file of zeroes is one too.
//
// A page that was ever mapped is never emptied by us: that could take away what the guest has
// written. That is why placing is exclusive. Why nobody sleeps for ever: landing.h.
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

  static constexpr uint8_t kStateBits = 0x07;
  static constexpr uint8_t kOvertakableMark = 0x08;
  static constexpr uint8_t kEarlyMark = 0x10;
  static constexpr uint8_t kPlacingMark = 0x20;
  static constexpr uint8_t kTouchedMark = 0x40;
  static constexpr uint8_t kWaiterMark = 0x80;

  /// What a transition did. Marks are as they were before it.
  struct Change {
    bool legal = false;  ///< false: the page's state or marks did not allow it; nothing happened
    PageState before = PageState::kAbsent;
    PageState after = PageState::kAbsent;
    bool had_waiter = false;
    bool was_touched = false;
    bool must_empty = false;  ///< kRemove: the caller empties the page, then calls NoteEmptied
    bool overtook = false;    ///< OnFault: a Requested page is the caller's to fetch now
  };

  /// What may become of a claim before bytes land.
  enum class Claim : uint8_t {
    kExclusive,    ///< the page is the claimer's until its lane has answered or is quiet
    kOvertakable,  ///< it has the mark
  };

  /// Counts what is missing in `cells` (all of it, for fresh storage).
  explicit Ledger(std::span<Cell> cells);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  [[nodiscard]] PageCount page_count() const { return PageCount(cells_.size()); }
  [[nodiscard]] PageState State(PageIndex page) const;
  [[nodiscard]] bool HasWaiter(PageIndex page) const;
  [[nodiscard]] bool IsTouched(PageIndex page) const;

  /// Absent + Requested + Discarding. The migration is over when it reaches zero.
  [[nodiscard]] PageCount missing() const {
    return PageCount(missing_.load(std::memory_order_acquire));
  }

  /// The transition of page_life.h, and the marks:
  ///   kLand, kFoundEmpty  clear the touched mark
  ///   kLaneQuiet          sets it on the way to Absent
  ///   kLandEarly          likewise, and the early mark, which every other event clears
  ///   kRemove             of a touched page that nobody is placing or landing: sets the placing
  ///                       mark and says `must_empty`
  ///   kMap                clears all marks; had_waiter: since BeginPlacing somebody came, wake it
  /// The waiter mark stays through all others.
  Change Apply(PageIndex page, PageEvent event);
  /// As Apply, but legal only while the page is in state `expected`.
  Change ApplyFrom(PageState expected, PageIndex page, PageEvent event);

  /// Claims the longest prefix of `run` that is Absent; empty if its first page is not.
  PageRun ClaimPrefix(PageRun run, Claim claim = Claim::kExclusive);

  /// Bytes of `run`, of at most 64 pages, are about to land, or its lane is quiet: takes the
  /// overtakable marks. Bit i of what is returned: page i had none, and is not the caller's.
  uint64_t BeginLanding(PageRun run);
  /// The lane that began is quiet, and has not reported these pages: they have the mark again, and
  /// the touched one.
  void AbandonLanding(PageRun run);

  /// Likewise, of pages that have the early mark.
  PageRun ClaimEarlyPrefix(PageRun run);

  /// A fault: sets the waiter mark, in every state, and if `may_claim` claims an Absent page, or
  /// overtakes a Requested one. `before` is the state that the fault met, `after` is Requested if
  /// this call claimed.
  Change OnFault(PageIndex page, bool may_claim);

  /// Takes the right to map the page. Legal if nobody else has it, and
  ///   Held: the page is Held and nobody waits for it;
  ///   Awaited: the page is not missing and somebody waits; takes the waiter mark too.
  /// Ends with Apply(kMap) when it is mapped, or with StopPlacing.
  Change BeginPlacingHeld(PageIndex page);
  Change BeginPlacingAwaited(PageIndex page);
  /// Nothing was mapped. `had_waiter` puts the mark back that BeginPlacing took.
  void StopPlacing(PageIndex page, bool had_waiter);
  /// The page was emptied: clears the touched mark. REQUIRES: the caller places the page.
  void NoteEmptied(PageIndex page);

  /// Memory is about to be put into the alias ahead of need. Only marks what may still land.
  void MarkTouched(PageRun run);

  /// After the death of the engine that wrote this ledger: nothing lands any more, so Requested
  /// returns to Absent and Discarding to Released, both touched. Nobody places, nobody is listed
  /// (wake every range: who still waits faults again). REQUIRES: no other user of the storage.
  void RecoverAfterCrash();

  /// No page of `run` is missing and none is touched: that stays so. Walks it.
  [[nodiscard]] bool IsWhole(PageRun run) const;
  /// Some page of `run` is Absent. Walks it.
  [[nodiscard]] bool HasAbsent(PageRun run) const;

  /// How many pages are in each state. Walks the ledger: for progress and reports only.
  struct Census {
    uint64_t count[kPageStateCount] = {};
  };
  [[nodiscard]] Census TakeCensus() const;

 private:
  template <class Next>
  Change Transition(PageIndex page, Next next);
  template <class Next>
  PageRun TransitionPrefix(PageRun run, Next next);

  std::span<Cell> cells_;
  std::atomic<uint64_t> missing_{0};
};

}  // namespace faultline
