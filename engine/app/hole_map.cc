#include "engine/app/hole_map.h"

namespace faultline {

std::vector<PageRun> HolesBetween(const Geometry& geometry, std::span<const PageRun> data) {
  std::vector<PageRun> holes;
  size_t next = 0;
  for (size_t region = 0; region < geometry.region_count(); ++region) {
    const PageRun all = geometry.pages_of(region);
    PageIndex at = all.first;
    for (; next < data.size() && data[next].first < all.end(); ++next) {
      if (at < data[next].first) holes.push_back({at, data[next].first - at});
      at = data[next].end();
    }
    if (at < all.end()) holes.push_back({at, all.end() - at});
  }
  return holes;
}

}  // namespace faultline
