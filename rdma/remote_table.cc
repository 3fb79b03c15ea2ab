#include "rdma/remote_table.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"

namespace faultline::rdma {

RemoteTable::RemoteTable(const Geometry& geometry, std::vector<wire::RdmaRegion> regions)
    : geometry_(geometry), regions_(std::move(regions)), current_(geometry.page_count()) {}

/// How many regions begin at or before `page`.
size_t RemoteTable::CountBefore(PageIndex page) const {
  const auto behind =
      std::upper_bound(regions_.begin(), regions_.end(), page,
                       [](PageIndex at, const auto& region) { return at < region.run.first; });
  return static_cast<size_t>(behind - regions_.begin());
}

std::optional<size_t> RemoteTable::RegionOf(PageIndex page) const {
  const size_t count = CountBefore(page);
  if (count == 0 || !regions_[count - 1].run.Contains(page)) return std::nullopt;
  return count - 1;
}

Route RemoteTable::RouteOf(PageRun run) const {
  const std::optional<size_t> region = RegionOf(run.first);
  PageIndex end = run.end();
  if (region.has_value()) {
    end = std::min(end, regions_[*region].run.end());
  } else if (const size_t next = CountBefore(run.first); next < regions_.size()) {
    end = std::min(end, regions_[next].run.first);
  }
  Route route{{run.first, PageCount(1)}, region.has_value() && current_.IsPresent(run.first)};
  while (route.run.end() < end) {
    const bool direct = region.has_value() && current_.IsPresent(route.run.end());
    if (direct != route.direct) break;
    route.run.count += PageCount(1);
  }
  return route;
}

RemoteTable::Target RemoteTable::TargetOf(PageIndex page) const {
  const std::optional<size_t> found = RegionOf(page);
  FAULTLINE_CHECK(found.has_value());
  const wire::RdmaRegion& region = regions_[*found];
  const PageRun before{region.run.first, page - region.run.first};
  return {region.address + geometry_.BytesOf(before).value(), region.key};
}

ByteCount RemoteTable::bytes() const {
  ByteCount sum;
  for (const wire::RdmaRegion& region : regions_) sum += geometry_.BytesOf(region.run);
  return sum;
}

}  // namespace faultline::rdma
