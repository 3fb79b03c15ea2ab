// The page space: every page of every guest RAM region under one numbering, and the only place
// where pages, addresses and bytes are converted into each other.
//
//   region 0 (ram0, 4 KiB pages)      region 1 (huge0, 2 MiB pages)
//   pages 0 … n0-1                    pages n0 … n0+n1-1
//
// Both sides agree on the same list of regions before anything moves (wire.h, Hello), so a
// PageIndex means the same page on both. A run never crosses from one region into the next.
//
// Threads: all classes here are immutable after construction; read them from anywhere.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"

namespace faultline {

inline constexpr size_t kRegionsMax = 64;
inline constexpr size_t kRegionIdLengthMax = 63;

/// One piece of guest RAM: a QEMU memory backend.
struct RegionShape {
  std::string id;  ///< the backend's id ("ram0"); equal on both sides
  ByteCount length;
  PageSize page_size;

  friend bool operator==(const RegionShape&, const RegionShape&) = default;
};

class Geometry {
 public:
  /// Refuses: no region, too many, ids empty, too long or repeated, lengths not whole pages.
  static Result<Geometry> Create(std::vector<RegionShape> shapes);

  [[nodiscard]] size_t region_count() const { return shapes_.size(); }
  [[nodiscard]] const RegionShape& shape(size_t region) const { return shapes_[region]; }
  [[nodiscard]] PageRun pages_of(size_t region) const;
  [[nodiscard]] PageCount page_count() const { return PageCount(first_pages_.back()); }
  [[nodiscard]] ByteCount byte_count() const;

  /// REQUIRES: page < page_count().
  [[nodiscard]] size_t RegionOf(PageIndex page) const;
  [[nodiscard]] PageSize PageSizeOf(PageIndex page) const {
    return shape(RegionOf(page)).page_size;
  }
  [[nodiscard]] ByteCount OffsetInRegion(PageIndex page) const;
  [[nodiscard]] ByteCount BytesOf(PageRun run) const { return run.count * PageSizeOf(run.first); }

  /// True if the run is not empty, lies inside one region and is within the limits of units.h.
  /// Whatever a peer sends passes here before it is used.
  [[nodiscard]] bool IsRequestable(PageRun run) const;
  /// The longest requestable run that starts at `first` and does not pass `end`.
  [[nodiscard]] PageRun RequestableFrom(PageIndex first, PageIndex end) const;

  /// Empty if both are equal, else one line naming the first difference.
  [[nodiscard]] std::string DifferenceTo(const Geometry& other) const;

 private:
  explicit Geometry(std::vector<RegionShape> shapes);

  std::vector<RegionShape> shapes_;
  std::vector<uint64_t> first_pages_;  ///< one more entry than regions: the last is the total
};

/// Where the regions lie in one address space. `Addr` is VmmAddr or HostAddr.
template <class Addr>
class AddressMap {
 public:
  /// REQUIRES: one base per region, in the geometry's order; `geometry` outlives the map.
  AddressMap(const Geometry& geometry, std::vector<Addr> bases)
      : geometry_(&geometry), bases_(std::move(bases)) {}

  [[nodiscard]] Addr AddrOf(PageIndex page) const {
    return bases_[geometry_->RegionOf(page)] + geometry_->OffsetInRegion(page);
  }
  /// The page that holds `addr`, or nothing if no region does.
  [[nodiscard]] std::optional<PageIndex> PageOf(Addr addr) const {
    for (size_t region = 0; region < bases_.size(); ++region) {
      const RegionShape& shape = geometry_->shape(region);
      if (addr < bases_[region] || addr >= bases_[region] + shape.length) continue;
      const uint64_t offset = (addr - bases_[region]).value();
      return geometry_->pages_of(region).first + PageCount(offset / shape.page_size.bytes());
    }
    return std::nullopt;
  }
  [[nodiscard]] Addr base(size_t region) const { return bases_[region]; }
  [[nodiscard]] const Geometry& geometry() const { return *geometry_; }

 private:
  const Geometry* geometry_;
  std::vector<Addr> bases_;
};

using VmmMap = AddressMap<VmmAddr>;

/// Guest RAM as the engine itself sees it: at the destination the alias that bytes land in, at
/// the source the mapping that bytes are sent from. Does not own the mappings.
class RamWindow : public AddressMap<HostAddr> {
 public:
  using AddressMap::AddressMap;

  [[nodiscard]] std::span<std::byte> BytesOf(PageRun run) const {
    return {reinterpret_cast<std::byte*>(AddrOf(run.first).value()),
            geometry().BytesOf(run).value()};
  }
};

}  // namespace faultline
