// A phase of the hand-over that several threads read and move on. The table (phases.h) decides what
// is allowed; an event that it does not know in this phase is a defect.
#pragma once

#include <spdlog/spdlog.h>

#include <atomic>

#include "engine/core/check.h"
#include "engine/core/phases.h"

namespace faultline {

/// SourcePhase with SourceEvent, or DestinationPhase with DestinationEvent. Any thread.
template <class Phase, class Event>
class PhaseKeeper {
 public:
  [[nodiscard]] Phase phase() const { return phase_.load(std::memory_order_acquire); }

  void Advance(Event event) {
    Phase before = phase();
    Phase after = Next(before, event);
    while (!phase_.compare_exchange_weak(before, after)) after = Next(before, event);
    FAULTLINE_CHECK(after != Phase::kInvalid);
    spdlog::debug("phase: {} to {}", Name(before), Name(after));
  }

 private:
  std::atomic<Phase> phase_{Phase::kPreparing};
};

}  // namespace faultline
