// Mapping pages into the guest, and waking who waits. Implemented by uffd/ and the simulation.
#pragma once

#include <cstdint>

#include "engine/core/units.h"

namespace faultline {

enum class PlaceResult : uint8_t {
  kPlaced = 1,      ///< every page of the run is mapped and every waiter on it awake
  kAlreadyPresent,  ///< some were mapped before; all are mapped now, and every waiter awake
  kRetry,           ///< an event (REMOVE) is unread: read the fault source, then call again
  kGone,            ///< the guest's process has ended
};

/// Threads: any number of threads may call at once. No call allocates, logs or waits for the
/// network. Both Map calls wake: also where the page was there before and its waiter slept on.
class PagePlacer {
 public:
  virtual ~PagePlacer() = default;
  /// Maps complete pages of the alias (UFFDIO_CONTINUE). REQUIRES: bytes complete, none landing.
  /// A page whose memory is gone (punched by the guest; its REMOVE event comes later or never) is
  /// mapped as zero, or left out and its waiters woken, and counts as placed.
  virtual PlaceResult MapHeld(PageRun run) = 0;
  /// Maps zero pages. REQUIRES: the alias is empty there, or holds zeroes.
  virtual PlaceResult MapZero(PageRun run) = 0;
  /// A fault on a page that the ledger calls Mapped: maps what the page cache has (MINOR: swapped
  /// out, collapsed), else a fresh zero page (MISSING: punched by a balloon without any event).
  virtual PlaceResult MapAgain(PageRun run) = 0;
  /// Frees the alias's memory (PUNCH_HOLE): the pages read as zero afterwards.
  virtual void Empty(PageRun run) = 0;
  /// Wakes whoever waits in the run without mapping anything; they fault again.
  virtual void Wake(PageRun run) = 0;
  /// Leaves the run to the kernel (UFFDIO_UNREGISTER) and wakes: from now on it maps what the page
  /// cache has, and zeroes where that has nothing. Both Map calls find it placed already. May fail
  /// silently: then it stays as it was. REQUIRES: nothing is landing there, nothing to be emptied.
  virtual void Retire(PageRun run) = 0;
};

}  // namespace faultline
