// One simulated migration, everything about it drawn from its seed.
#pragma once

#include <cstdint>
#include <string>

namespace faultline::simulation {

struct Outcome {
  std::string violation;  ///< empty: every law held
  uint64_t pages = 0;
  uint64_t steps = 0;
  uint64_t faults = 0;  ///< of the engine's last life
  uint64_t deaths = 0;
  uint64_t cuts = 0;
};

Outcome RunMigration(uint64_t seed);

}  // namespace faultline::simulation
