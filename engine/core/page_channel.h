// A lane: fetches of runs are posted, arrivals are reaped. Implemented over TCP (engine/tcp),
// over RDMA READs (rdma/), and by the simulation.
//
// A lane knows, from its own table of posted runs, where bytes land; the peer's words are only
// checked against it. A lane lives for one generation: once broken it stays broken, and after
// Close() not a single byte lands any more. Only then may its unanswered pages go back to Absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/core/units.h"

namespace faultline {

enum class LaneKind : uint8_t { kInvalid = 0, kControl = 1, kUrgent = 2, kBulk = 3 };

enum class LaneHealth : uint8_t {
  kOpen = 1,
  kBroken,  ///< link lost, or the peer broke the protocol: Close() it and ask another lane
};

/// A piece of a posted run that is complete: all bytes of its pages are in the alias (or, `zero`,
/// the source says that they are all zero and nothing landed). A run arrives in one or more
/// pieces, in any order.
struct Arrival {
  PageRun run;
  bool zero = false;
  bool overtaken = false;  ///< nothing landed: a fault has fetched the pages by itself (ledger.h)
  Nanos turned{};          ///< the source's own share of the fetch, as it says; zero: it has not
};

/// Used by one thread: the one whose Reactor it was made on.
class PageChannel {
 public:
  virtual ~PageChannel() = default;

  /// How many more runs may be posted now.
  [[nodiscard]] virtual size_t Room() const = 0;
  /// Queues a fetch; it leaves with the next Reactor::Wait at the latest.
  /// REQUIRES: Room() > 0, geometry.IsRequestable(run), every page claimed by the caller.
  virtual void Post(PageRun run) = 0;
  /// Sends what is queued at once, where that can be done without waiting: somebody waits for it.
  virtual void SendNow() {}
  /// Takes up to out.size() arrivals; returns how many. Never blocks. Fewer than out.size()
  /// means none are left for now.
  virtual size_t Reap(std::span<Arrival> out) = 0;
  [[nodiscard]] virtual LaneHealth Health() const = 0;

  /// Ends the lane and returns when it is quiet: every receive completed or cancelled. Arrivals
  /// not reaped before are lost. Afterwards Unanswered() is final.
  virtual void Close() = 0;
  /// The pieces that were posted and have not been reaped. REQUIRES: closed. Valid until the
  /// channel is destroyed.
  [[nodiscard]] virtual std::span<const PageRun> Unanswered() const = 0;

  /// Bytes that crossed the wire for this lane, both directions, headers included.
  [[nodiscard]] virtual ByteCount WireBytes() const = 0;
};

}  // namespace faultline
