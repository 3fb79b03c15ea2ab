// The places that a guest will touch first (vm.h), as runs of the page space.
#pragma once

#include <span>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/vm.h"

namespace faultline {

/// Rising, not overlapping, each within a region; one page for several places in it.
std::vector<PageRun> RunsOf(std::span<const RamPlace> places, const Geometry& geometry);

}  // namespace faultline
