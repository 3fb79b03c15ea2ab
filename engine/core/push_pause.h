// Holds all pushers, and whatever else can wait, back for a moment. A guest that has just begun to
// run faults on page after page (its kernel's code, page tables, stacks) and its code has to be
// translated or loaded into caches again: for its first instants the wire belongs to it, and the
// processors while its devices are loaded.
#pragma once

#include <algorithm>
#include <atomic>

#include "engine/core/units.h"

namespace faultline {

/// Threads: any.
class PushPause {
 public:
  /// No pusher asks for anything before `when`; what is in flight still arrives.
  void Until(Nanos when) { until_.store(when.count(), std::memory_order_relaxed); }
  /// How long it lasts yet; zero: it is over.
  [[nodiscard]] Nanos Left(Nanos now) const {
    return std::max(Nanos(until_.load(std::memory_order_relaxed)) - now, Nanos(0));
  }

 private:
  std::atomic<Nanos::rep> until_{0};
};

}  // namespace faultline
