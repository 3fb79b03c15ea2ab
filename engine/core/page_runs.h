// Lists of runs, built page by page or piece by piece.
#pragma once

#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline {

/// Appends `run`, or grows the last of `runs` if it ends where `run` begins, in the same region.
/// REQUIRES: `run` is within a region and not empty.
inline void AppendJoined(std::vector<PageRun>& runs, PageRun run, const Geometry& geometry) {
  const bool joins = !runs.empty() && runs.back().end() == run.first &&
                     geometry.RegionOf(runs.back().first) == geometry.RegionOf(run.first);
  if (joins) {
    runs.back().count += run.count;
  } else {
    runs.push_back(run);
  }
}

}  // namespace faultline
