// The lowest of the delays that one side sees, for another to take now and then: what a path takes
// without the noise of the processors at its ends, which only ever adds.
#pragma once

#include <atomic>

#include "engine/core/units.h"

namespace faultline {

/// Threads: any. Never waits; of two notes at the same instant one may be lost.
class LowestDelay {
 public:
  void Note(Nanos delay) {
    Nanos::rep lowest = lowest_.load(std::memory_order_relaxed);
    if (delay.count() < lowest) {
      lowest_.compare_exchange_strong(lowest, delay.count(), std::memory_order_relaxed);
    }
  }
  /// Since the last Take; zero: none.
  Nanos Take() {
    const Nanos lowest(lowest_.exchange(kNone.count(), std::memory_order_relaxed));
    return lowest == kNone ? Nanos(0) : lowest;
  }

 private:
  static constexpr Nanos kNone = Nanos::max();
  std::atomic<Nanos::rep> lowest_{kNone.count()};
};

}  // namespace faultline
