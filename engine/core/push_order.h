// In which order the pusher brings pages that nobody has asked for. Shared by all bulk lanes.
//
// The order only proposes; the ledger decides who fetches a page. What is heat-ordered (DESIGN
// §4) is another PushOrder, so the pusher does not change when it comes.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

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
  /// `geometry` outlives the order.
  explicit SequentialOrder(const Geometry& geometry);
  PageRun Next() override;
  void Rewind() override { cursor_.store(0, std::memory_order_relaxed); }

 private:
  /// A region, cut into runs of the longest requestable length.
  struct Stretch {
    PageRun pages;
    uint64_t run_pages;
    uint64_t first_run;  ///< how many runs all stretches before it have
  };
  std::vector<Stretch> stretches_;
  uint64_t run_count_ = 0;
  std::atomic<uint64_t> cursor_{0};  ///< the next run; may pass run_count_
};

}  // namespace faultline
