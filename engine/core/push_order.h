// In which order the pusher brings pages that nobody has asked for. Shared by all bulk lanes.
//
// The order only proposes; the ledger decides who fetches a page. What is heat-ordered (DESIGN
// §4) is another PushOrder, so the pusher does not change when it comes.
#pragma once

#include <atomic>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline {

/// Threads: Next from any thread.
class PushOrder {
 public:
  virtual ~PushOrder() = default;
  /// The next candidate: a requestable run, not necessarily Absent. Empty: one round is over.
  virtual PageRun Next() = 0;
  /// Starts another round: pages may have gone back to Absent behind the cursor.
  virtual void Rewind() = 0;
};

/// By address, in whole runs.
class SequentialOrder final : public PushOrder {
 public:
  explicit SequentialOrder(const Geometry& geometry) : geometry_(geometry) {}
  PageRun Next() override;
  void Rewind() override { cursor_.store(0, std::memory_order_relaxed); }

 private:
  const Geometry& geometry_;
  std::atomic<uint64_t> cursor_{0};
};

}  // namespace faultline
