// Who waits for which page, and since when. One per engine.
//
// The ledger's waiter mark says that somebody waits; this table adds the times, for the latency
// histograms, and lets the fault loop ask again for what a dead lane owed: a page that is Absent
// and marked is always listed here. A fixed number of slots; when none is left the fault loop
// wakes the thread, which faults again, so the kernel keeps the queue.
//
// Threads: any. A page is added before its waiter mark is set, and removed only after the page is
// complete; complete pages never become Absent again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "engine/core/units.h"

namespace faultline {

class WaiterTable {
 public:
  static constexpr size_t kSlots = 4096;  ///< power of two

  struct Times {
    Nanos read{};       ///< when the fault was read from the userfaultfd
    Nanos requested{};  ///< when it was posted on the urgent lane; zero: it joined another fetch
  };

  /// False if no slot is left. A page that is there already keeps its times.
  /// REQUIRES: nobody else adds the same page at the same time.
  bool Add(PageIndex page, Nanos read);
  /// The page was posted on the urgent lane. No-op for a page that is not listed.
  void NoteRequested(PageIndex page, Nanos requested);
  /// The page's times, and its slot is free again; nothing if nobody was listed.
  std::optional<Times> Remove(PageIndex page);
  [[nodiscard]] size_t size() const { return size_.load(std::memory_order_relaxed); }

  /// A listed page is Absent and on no lane: the fault loop that says so asks for it with a step of
  /// its own, as soon as its lane has room.
  void NoteUnasked() { unasked_.store(true, std::memory_order_release); }
  /// Likewise, and whichever fault loop has a lane is to ask for it: all are rung for.
  void RingForUnasked() {
    NoteUnasked();
    ring_();
  }
  /// What rings for the fault loops. Before any of their threads.
  void OnUnasked(std::function<void()> ring) { ring_ = std::move(ring); }
  /// True once after either.
  bool TakeUnasked() {
    return unasked_.load(std::memory_order_relaxed) &&
           unasked_.exchange(false, std::memory_order_acq_rel);
  }

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

  static size_t HomeOf(PageIndex page);
  Slot* Find(PageIndex page);

  std::array<Slot, kSlots> slots_;
  std::atomic<size_t> size_{0};
  std::atomic<size_t> probe_max_{0};  ///< no page lies further than this from its home; grows only
  std::atomic<bool> unasked_{false};
  std::function<void()> ring_ = [] {};
};

}  // namespace faultline
