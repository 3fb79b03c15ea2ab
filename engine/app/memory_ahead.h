// Puts memory under the alias ahead of the pushers and in their order, on a thread of its own, so
// that neither the switch nor the pages wait for it: a huge page is zeroed many times faster than
// its pages arrive. Where it has not been yet, landing allocates by itself.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/push_pause.h"
#include "uffd/guest_ram.h"

namespace faultline {

/// Threads: one owner.
class MemoryAhead {
 public:
  /// All outlive it. Rests while `pause` lasts. Does nothing before Start.
  MemoryAhead(const GuestRam& ram, const PushPause& pause, const Clock& clock)
      : ram_(ram), pause_(pause), clock_(clock) {}
  MemoryAhead(const MemoryAhead&) = delete;
  MemoryAhead& operator=(const MemoryAhead&) = delete;
  ~MemoryAhead() { Stop(); }

  /// Begins with the first of `runs`. Once. A failure ends it with a warning: nothing depends on
  /// it.
  void Start(std::vector<PageRun> runs);
  /// Ends it within a few milliseconds and joins. May be called again.
  void Stop();

 private:
  static constexpr PageCount kPiece{512};  ///< 2 MiB: how late a Stop or a pause may be noticed
  static constexpr Nanos kNapMax = std::chrono::milliseconds(5);

  void Run(const std::vector<PageRun>& runs);
  bool Populate(PageRun run);
  void Rest();

  const GuestRam& ram_;
  const PushPause& pause_;
  const Clock& clock_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
