// Which stretches of guest RAM become memory regions. Arithmetic only.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline::rdma {

/// Cuts `runs` (rising, none across regions of guest RAM) into pieces of at most `bytes_max`, or
/// one page where a page is larger. The cuts lie at multiples of that from the region's start.
std::vector<PageRun> CutIntoPieces(const Geometry& geometry, std::span<const PageRun> runs,
                                   ByteCount bytes_max);

struct RegionLimits {
  ByteCount bytes_min;  ///< shorter runs are not worth a region of their own
  ByteCount bytes_max;
  size_t count_max = 0;
};
/// The pieces that become regions: those within the limits, and where there are too many, the
/// longest. Still rising.
std::vector<PageRun> ChooseRegions(const Geometry& geometry, std::vector<PageRun> pieces,
                                   const RegionLimits& limits);

/// How large regions are, so that a guest of that size needs few enough of them.
ByteCount RegionBytesFor(ByteCount total, ByteCount least, size_t count_max);

}  // namespace faultline::rdma
