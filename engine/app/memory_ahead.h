// Puts memory under the alias ahead of the pushers and in their order, on threads of its own: a
// huge page is zeroed many times faster than its pages arrive. They have a head start while the
// guest still runs at the source and nobody waits, so that most guests find all their memory there
// when they are switched; a larger one is not kept back by it. Where they have not been yet,
// landing allocates by itself: 0.2 ms of a demand fetch for each huge page.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/fault_cores.h"
#include "engine/core/push_pause.h"
#include "uffd/guest_ram.h"

namespace faultline {

/// Threads: one owner.
class MemoryAhead {
 public:
  /// All outlive it. Rests while `pause` lasts, and keeps off `cores`. Does nothing before Start.
  MemoryAhead(const GuestRam& ram, const PushPause& pause, const FaultCores& cores,
              const Clock& clock)
      : ram_(ram), pause_(pause), cores_(cores), clock_(clock) {}
  MemoryAhead(const MemoryAhead&) = delete;
  MemoryAhead& operator=(const MemoryAhead&) = delete;
  ~MemoryAhead() { Stop(); }

  /// Begins with the first of `runs`. Once. A failure ends it with a warning: nothing depends on
  /// it.
  void Start(std::vector<PageRun> runs);
  /// Returns when it is through, or after kHeadStartMax. `on_slice` runs meanwhile: for signs of
  /// life, and to stop with its error.
  [[nodiscard]] Status AwaitHeadStart(const std::function<Status()>& on_slice) const;
  /// Ends it within a few milliseconds and joins. May be called again.
  void Stop();

 private:
  static constexpr unsigned kThreadsMin = 2;
  static constexpr unsigned kThreadsMax = 4;
  static constexpr PageCount kPiece{512};  ///< 2 MiB: how late a Stop or a pause may be noticed
  static constexpr Nanos kNapMax = std::chrono::milliseconds(5);
  static constexpr Nanos kHeadStartMax = std::chrono::milliseconds(500);
  static constexpr Nanos kSlice = std::chrono::milliseconds(1);

  void Run();
  PageRun NextPiece();
  void Rest();
  bool Populate(PageRun piece);

  const GuestRam& ram_;
  const PushPause& pause_;
  const FaultCores& cores_;
  const Clock& clock_;
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned> at_work_{0};  ///< threads that are not through

  std::mutex mutex_;           ///< guards the two below
  std::vector<PageRun> runs_;  ///< what is left of each
  size_t next_ = 0;

  std::vector<std::thread> threads_;  ///< last: they use all of the above
};

}  // namespace faultline
