// Where the simulation (tests/simulation) lets another thread run or the engine die, and watches
// the ledger. In the engine itself these are empty.
#pragma once

#include <cstdint>

#include "engine/core/units.h"

namespace faultline {

#ifdef FAULTLINE_SIMULATION
void SimulationYield();
void SimulationTransition(PageIndex page, uint8_t before, uint8_t after);
#else
inline void SimulationYield() {}
inline void SimulationTransition(PageIndex, uint8_t, uint8_t) {}
#endif

}  // namespace faultline
