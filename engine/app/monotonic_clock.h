// The engine's clock outside the simulation.
#pragma once

#include <chrono>

#include "engine/core/clock.h"

namespace faultline {

class MonotonicClock final : public Clock {
 public:
  [[nodiscard]] Nanos Now() const override {
    return std::chrono::duration_cast<Nanos>(std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace faultline
