// Who waits for which page, and since when. One per shard.
//
// The ledger's waiter mark says that somebody waits; this table adds the times, for the latency
// histograms, and lets a new lane ask again for what the old one owed. A fixed number of slots:
// no more guest threads can sleep on distinct pages than there are threads, and when the table is
// full the fault loop stops reading events until a slot is free, so the kernel keeps the queue.
//
// Threads: Add by the shard's fault loop only; Remove by whoever completes the page.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "engine/core/units.h"

namespace faultline {

class WaiterTable {
 public:
  static constexpr size_t kSlots = 1024;  ///< power of two

  struct Times {
    Nanos read{};       ///< when the fault was read from the userfaultfd
    Nanos requested{};  ///< when it was posted on a lane; zero: it joined a run on its way
  };

  /// False if the table is full. A page that is there already keeps its times.
  bool Add(PageIndex page, Times times);
  /// The page's times, and its slot is free again; nothing if nobody was listed.
  std::optional<Times> Remove(PageIndex page);
  [[nodiscard]] size_t size() const { return size_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool full() const { return size() >= kSlots / 2; }

  /// Calls visit(PageIndex) for every page listed.
  template <class Visit>
  void ForEach(Visit visit) const {
    for (const Slot& slot : slots_) {
      const uint64_t key = slot.key.load(std::memory_order_acquire);
      if (key != kFree) visit(PageIndex(key - 1));
    }
  }

 private:
  static constexpr uint64_t kFree = 0;
  struct Slot {
    std::atomic<uint64_t> key{kFree};  ///< page + 1
    std::atomic<int64_t> read_ns{0};
    std::atomic<int64_t> requested_ns{0};
  };

  std::array<Slot, kSlots> slots_;
  std::atomic<size_t> size_{0};
};

}  // namespace faultline
