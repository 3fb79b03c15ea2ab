// Time, as the engine reads it: CLOCK_MONOTONIC in the real engine, virtual in the simulation.
#pragma once

#include "engine/core/units.h"

namespace faultline {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Since an arbitrary point; never goes back. Any thread. No system call (vDSO).
  [[nodiscard]] virtual Nanos Now() const = 0;
};

}  // namespace faultline
