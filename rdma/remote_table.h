// What the source lets us read: pages → address and key. Two conditions: the page is in a
// registered region, and the source has vouched, after it stopped its guest, that the region still
// holds the page that the guest had (wire.h, RdmaCurrent).
//
// Threads: regions are set before anybody looks; MarkCurrent and Find from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/core/direct_channel.h"
#include "engine/core/geometry.h"
#include "engine/core/rdma_wire.h"
#include "engine/core/source_memory.h"

namespace faultline::rdma {

class RemoteTable {
 public:
  /// REQUIRES: `regions` rise, do not overlap, and each is inside one region of guest RAM.
  RemoteTable(const Geometry& geometry, std::vector<wire::RdmaRegion> regions);

  void MarkCurrent(PageRun run) { current_.MarkPresent(run); }

  /// The longest prefix of `run` that can be read (direct) from one region, or that cannot.
  [[nodiscard]] Route RouteOf(PageRun run) const;

  struct Target {
    uint64_t address = 0;
    uint32_t key = 0;
  };
  /// Of the first page of a direct route.
  [[nodiscard]] Target TargetOf(PageIndex page) const;
  /// Which region holds the page; nothing if none does.
  [[nodiscard]] std::optional<size_t> RegionOf(PageIndex page) const;

  [[nodiscard]] const std::vector<wire::RdmaRegion>& regions() const { return regions_; }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] ByteCount bytes() const;

 private:
  [[nodiscard]] size_t CountBefore(PageIndex page) const;

  const Geometry& geometry_;
  const std::vector<wire::RdmaRegion> regions_;
  PresenceMap current_;
};

}  // namespace faultline::rdma
