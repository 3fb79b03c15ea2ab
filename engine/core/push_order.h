// In which order the pusher brings pages that nobody has asked for. Shared by all bulk lanes.
//
// The order only proposes; the ledger decides who fetches a page. What is heat-ordered (DESIGN
// §4) is another PushOrder, so the pusher does not change when it comes.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
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
  /// What Next gives now is so urgent that no PushPause holds it back. A hint: another thread may
  /// take it first.
  [[nodiscard]] virtual bool IsUrgent() const { return false; }
};

/// By address, in whole runs; what the source is known to have comes before all else.
class SequentialOrder final : public PushOrder {
 public:
  /// `geometry` outlives the order.
  explicit SequentialOrder(const Geometry& geometry);

  /// The whole runs that hold `data` are proposed first. The rest still follows: the guest may
  /// have touched more since. REQUIRES: `data` rises, does not overlap and no run crosses a
  /// region; no thread uses the order yet.
  void PutFirst(std::span<const PageRun> data);

  PageRun Next() override;
  void Rewind() override { cursor_.store(0, std::memory_order_relaxed); }

 private:
  /// Pages of one region that are proposed one after the other, in runs of the same length.
  struct Stretch {
    PageRun pages;
    uint64_t run_pages;
    uint64_t first_run;  ///< how many runs all stretches before it have
  };
  static PageRun WholeRuns(const Stretch& region, PageRun pages);
  void AddStretch(PageRun pages, uint64_t run_pages);
  void AddRegions();

  const Geometry& geometry_;
  std::vector<Stretch> stretches_;
  uint64_t run_count_ = 0;
  std::atomic<uint64_t> cursor_{0};  ///< the next run; may pass run_count_
};

/// What the guest is expected to touch first, as it was put; then all that `rest` proposes.
class LeadingOrder final : public PushOrder {
 public:
  /// More is left to the rest: it would keep the guest's own faults waiting.
  static constexpr PageCount kPagesMax{8192};

  /// Both outlive the order.
  LeadingOrder(const Geometry& geometry, PushOrder& rest) : geometry_(geometry), rest_(rest) {}

  /// After what was put before. REQUIRES: runs within regions; no thread uses the order yet.
  void Put(std::span<const PageRun> runs);

  PageRun Next() override;
  void Rewind() override { rest_.Rewind(); }
  [[nodiscard]] bool IsUrgent() const override {
    return cursor_.load(std::memory_order_relaxed) < leading_.size();
  }

 private:
  const Geometry& geometry_;
  PushOrder& rest_;
  std::vector<PageRun> leading_;
  PageCount page_count_;
  std::atomic<size_t> cursor_{0};  ///< the next of leading_; may pass its end
};

}  // namespace faultline
