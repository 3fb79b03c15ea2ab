// What happens to bytes that have arrived, on whichever lane: land → place → wake.
//
// Shared by the fault loop (single pages) and the pusher (runs); one instance per thread.
//   Requested: Held is written first, then CONTINUE, then Mapped. A page somebody waits for is
//     mapped before the rest of its run.
//   Zero: the alias is emptied where bytes may lie, then Hole; mapped only if somebody waits.
//   Discarding: emptied first, then Released; a waiter gets a zero page.
// A placer that answers kRetry (a REMOVE event is unread) leaves the run on a bounded list that
// Retry() works off; the pages stay Held, which is safe for as long as it takes.
#pragma once

#include <array>
#include <cstddef>

#include "engine/core/clock.h"
#include "engine/core/geometry.h"
#include "engine/core/ledger.h"
#include "engine/core/metrics.h"
#include "engine/core/page_channel.h"
#include "engine/core/page_placer.h"
#include "engine/core/waiter_table.h"

namespace faultline {

class Landing {
 public:
  static constexpr size_t kRetriesMax = 128;

  struct Parts {
    const Geometry& geometry;
    Ledger& ledger;
    PagePlacer& placer;
    WaiterTable& waiters;
    const Clock& clock;
    FaultMetrics& fault_metrics;
    LandingMetrics& landing_metrics;
  };
  explicit Landing(Parts parts) : parts_(parts) {}

  /// Room for another arrival: while false, call Retry() before Complete().
  [[nodiscard]] bool HasRoom() const { return retry_count_ < kRetriesMax / 2; }
  /// REQUIRES: HasRoom(); the run was claimed by this thread's lane.
  void Complete(const Arrival& arrival);
  /// Maps what had to wait for a REMOVE event to be read.
  void Retry();
  /// The lane is quiet: its unanswered pages go back to Absent (or Released).
  void GiveBack(PageRun unanswered);
  [[nodiscard]] bool guest_gone() const { return guest_gone_; }

 private:
  void CompleteData(PageRun run);
  void CompleteZero(PageRun run);
  void CompleteDiscarded(PageIndex page);
  void MapRun(PageRun run);
  void MapZeroPage(PageIndex page);
  void NoteMapped(PageRun run);
  void PutOff(PageRun run, bool zero);

  struct PutOffRun {
    PageRun run;
    bool zero;
  };
  Parts parts_;
  std::array<PutOffRun, kRetriesMax> retries_{};
  size_t retry_count_ = 0;
  bool guest_gone_ = false;
};

}  // namespace faultline
