#include "engine/core/geometry.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"

namespace faultline {
namespace {

constexpr uint64_t kRegionBytesMax = uint64_t{1} << 46;  // 64 TiB: no sum of 64 of them overflows

std::string Quoted(const std::string& id) { return "'" + id + "'"; }

Status CheckShape(const RegionShape& shape) {
  if (shape.id.empty() || shape.id.size() > kRegionIdLengthMax) {
    return Fail(ErrorKind::kRefused, "a RAM region's id must have 1 to " +
                                         std::to_string(kRegionIdLengthMax) +
                                         " characters: " + Quoted(shape.id));
  }
  if (!shape.page_size.valid()) {
    return Fail(ErrorKind::kRefused,
                "RAM region " + Quoted(shape.id) + ": page size " +
                    std::to_string(shape.page_size.bytes()) +
                    " is not a power of two between 4 KiB and 1 GiB");
  }
  const uint64_t length = shape.length.value();
  if (length == 0 || length > kRegionBytesMax || length % shape.page_size.bytes() != 0) {
    return Fail(ErrorKind::kRefused, "RAM region " + Quoted(shape.id) + ": length " +
                                         std::to_string(length) +
                                         " is not a whole number of its pages of " +
                                         std::to_string(shape.page_size.bytes()) + " bytes");
  }
  return {};
}

}  // namespace

Result<Geometry> Geometry::Create(std::vector<RegionShape> shapes) {
  if (shapes.empty()) return Fail(ErrorKind::kRefused, "the guest has no RAM region to move");
  if (shapes.size() > kRegionsMax) {
    return Fail(ErrorKind::kRefused, "the guest has " + std::to_string(shapes.size()) +
                                         " RAM regions; at most " + std::to_string(kRegionsMax) +
                                         " can be moved");
  }
  for (size_t i = 0; i < shapes.size(); ++i) {
    FAULTLINE_TRY(CheckShape(shapes[i]));
    const auto same_id = [&](const RegionShape& other) { return other.id == shapes[i].id; };
    if (std::count_if(shapes.begin(), shapes.end(), same_id) > 1) {
      return Fail(ErrorKind::kRefused,
                  "two RAM regions have the same id " + Quoted(shapes[i].id) + "; rename one");
    }
  }
  return Geometry(std::move(shapes));
}

Geometry::Geometry(std::vector<RegionShape> shapes) : shapes_(std::move(shapes)) {
  first_pages_.push_back(0);
  for (const RegionShape& shape : shapes_) {
    first_pages_.push_back(first_pages_.back() + shape.length.value() / shape.page_size.bytes());
  }
}

PageRun Geometry::pages_of(size_t region) const {
  return {PageIndex(first_pages_[region]),
          PageCount(first_pages_[region + 1] - first_pages_[region])};
}

ByteCount Geometry::byte_count() const {
  ByteCount total;
  for (const RegionShape& shape : shapes_) total += shape.length;
  return total;
}

size_t Geometry::RegionOf(PageIndex page) const {
  FAULTLINE_CHECK(page.value() < first_pages_.back());
  size_t region = 0;
  while (page.value() >= first_pages_[region + 1]) ++region;
  return region;
}

ByteCount Geometry::OffsetInRegion(PageIndex page) const {
  const size_t region = RegionOf(page);
  return (page - PageIndex(first_pages_[region])) * shape(region).page_size;
}

bool Geometry::IsRequestable(PageRun run) const {
  if (run.empty() || run.first.value() >= page_count().value()) return false;
  if (run.count.value() > kRunPagesMax) return false;
  return RequestableFrom(run.first, run.end()).count == run.count;
}

PageRun Geometry::RequestableFrom(PageIndex first, PageIndex end) const {
  const size_t region = RegionOf(first);
  const uint64_t bytes_limit = kRunBytesMax.value() / shape(region).page_size.bytes();
  const uint64_t limit = std::clamp<uint64_t>(bytes_limit, 1, kRunPagesMax);
  const PageIndex last = std::min(end, pages_of(region).end());
  return {first, PageCount(std::min(limit, (last - first).value()))};
}

std::string Geometry::DifferenceTo(const Geometry& other) const {
  if (region_count() != other.region_count()) {
    return "one side has " + std::to_string(region_count()) + " RAM regions, the other " +
           std::to_string(other.region_count());
  }
  for (size_t i = 0; i < region_count(); ++i) {
    const RegionShape& a = shape(i);
    const RegionShape& b = other.shape(i);
    if (a == b) continue;
    if (a.id != b.id) {
      return "RAM region " + std::to_string(i) + " is called " + Quoted(a.id) +
             " on one side and " + Quoted(b.id) + " on the other";
    }
    if (a.length != b.length) {
      return "RAM region " + Quoted(a.id) + " has " + std::to_string(a.length.value()) +
             " bytes on one side and " + std::to_string(b.length.value()) + " on the other";
    }
    return "RAM region " + Quoted(a.id) + " has pages of " + std::to_string(a.page_size.bytes()) +
           " bytes on one side and " + std::to_string(b.page_size.bytes()) + " on the other";
  }
  return {};
}

}  // namespace faultline
