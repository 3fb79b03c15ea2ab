#include "engine/core/vm.h"

#include <utility>

namespace faultline {

Result<Geometry> GeometryOf(const VmDescription& vm) {
  std::vector<RegionShape> shapes;
  for (const VmRegion& region : vm.regions) shapes.push_back(region.shape);
  return Geometry::Create(std::move(shapes));
}

}  // namespace faultline
