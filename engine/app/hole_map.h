// The complement of what the source has.
#pragma once

#include <span>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline {

/// Every page that is in no run of `data`, as runs that stay inside one region each.
/// REQUIRES: `data` rises, does not overlap, and no run crosses a region.
std::vector<PageRun> HolesBetween(const Geometry& geometry, std::span<const PageRun> data);

}  // namespace faultline
