// What happens to bytes that have arrived, on whichever lane: land → place → wake.
//
// Shared by the fault loop (single pages), the pusher (runs), the hole sweep and what comes early;
// one instance per thread.
//   Requested: Held is written first, then CONTINUE, then Mapped. A page somebody waits for is
//     mapped before the rest of its run. The pushers, unless they pause, leave the
//     rest to its block (retired_blocks.h).
//   Zero: the alias is emptied where bytes may lie, then Hole; mapped only if somebody waits.
//   Discarding: emptied first, then Released; a waiter gets a zero page.
// A placer that answers kRetry (a REMOVE event is unread) leaves the run on a bounded list that
// Retry() works off; the pages keep their state, which is safe for as long as it takes.
//
// Why no wake-up is ever lost. The fault loop, having read a fault on page P, sets P's waiter mark
// (Ledger::OnFault). The guest's thread sleeps from before that moment until somebody wakes P.
//   1. P was missing when the mark was set. Whoever completes P does so by compare-and-swap on
//      the same byte, so it sees the mark, and calls Settle. A lane that dies instead leaves P
//      Absent with its mark and says so (WaiterTable::RingForUnasked): the fault loop asks again.
//   2. P was not missing and nobody was placing it: the fault loop itself calls Settle.
//   3. Another thread was placing P (BeginPlacing, which took any earlier mark, had happened and
//      its end had not). That end is a compare-and-swap too: it sees the new mark. If the page was
//      mapped, Finish wakes it once more; if not, P stays marked and on the retry list.
//   4. The retry list is full: P is woken without being mapped, and its thread faults again.
// Settle maps P by whatever its state calls for, and every Map call wakes.
#pragma once

#include <array>
#include <cstddef>

#include "engine/core/clock.h"
#include "engine/core/geometry.h"
#include "engine/core/ledger.h"
#include "engine/core/lowest_delay.h"
#include "engine/core/metrics.h"
#include "engine/core/page_channel.h"
#include "engine/core/page_placer.h"
#include "engine/core/retired_blocks.h"
#include "engine/core/waiter_table.h"

namespace faultline {

class Landing {
 public:
  static constexpr size_t kRetriesMax = 128;
  /// How long a thread may sleep at most while something is on its retry list.
  static constexpr Nanos kRetryPause{50'000};

  /// All outlive the landing. The two metrics are this thread's own; the rest is shared.
  struct Parts {
    const Geometry& geometry;
    Ledger& ledger;
    PagePlacer& placer;
    WaiterTable& waiters;
    const Clock& clock;
    FaultMetrics& fault_metrics;
    LandingMetrics& landing_metrics;
    LowestDelay* urgent_trips = nullptr;  ///< hears of demand fetches, posted to landed
    RetiredBlocks* blocks = nullptr;      ///< hears of complete pages
  };
  explicit Landing(Parts parts) : parts_(parts) {}

  /// From now on what nobody waits for stays Held until its block is retired, if there are
  /// blocks; or, as at first, is mapped at once.
  void Defer(bool defers) { defers_ = defers; }

  /// REQUIRES: the run is the caller's, claimed and not overtaken, and at most kRunPagesMax pages
  /// long; nothing lands in it any more.
  void Complete(const Arrival& arrival);
  /// The lane is quiet: its unanswered pages go back to Absent (or Released).
  void GiveBack(PageRun unanswered) { Return(unanswered, PageEvent::kLaneQuiet); }
  /// All bytes are there, of a source that may still change them: likewise.
  void CompleteEarly(PageRun run) { Return(run, PageEvent::kLandEarly); }
  /// The guest gave the pages up (a REMOVE event was read).
  void Remove(PageRun removed);
  /// After RecoverAfterCrash: empties what the dead engine left where the guest had given up.
  void EmptyLeftovers();
  /// The source has no memory there, for good: whatever is Absent becomes Hole. Pages that are
  /// Requested are left: their reply says zero. Any length.
  void SweepHoles(PageRun holes);
  /// Maps the page if somebody waits for it and its state allows. `since`: when it was complete.
  void Settle(PageIndex page, Nanos since);

  /// After a fault on a Held page: the next touch will be beside it. Maps what is Held there.
  void MapAround(PageIndex page, Nanos since);

  /// Tries again what had to wait for a REMOVE event to be read.
  void Retry();
  [[nodiscard]] bool has_retries() const { return retry_count_ > 0; }
  [[nodiscard]] bool guest_gone() const { return guest_gone_; }

 private:
  void CompleteData(PageRun run, Nanos landed);
  void CompleteZero(PageRun run, Nanos landed);
  void Return(PageRun run, PageEvent event);
  void CompleteDiscarded(PageIndex page, PageEvent event, Nanos landed);
  void PlaceHeld(PageRun run, Nanos since);
  [[nodiscard]] bool IsDeferred(PageRun run) const;
  void MapUnawaited(PageRun run, Nanos since);
  void NoteComplete(PageRun run);
  PlaceResult Map(PageIndex page, const Ledger::Change& begun);
  void Finish(PageRun run, PlaceResult result, bool awaited, Nanos since);
  void NoteAwake(PageIndex page, Nanos since);
  void PutOff(PageRun run);
  void EmptyRemoved(PageRun run);

  Parts parts_;
  std::array<PageRun, kRetriesMax> retries_{};
  size_t retry_count_ = 0;
  bool guest_gone_ = false;
  bool defers_ = false;
  Nanos turned_{};  ///< of the arrival that is being completed
};

}  // namespace faultline
