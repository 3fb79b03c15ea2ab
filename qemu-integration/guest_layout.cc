#include "qemu-integration/guest_layout.h"

#include <algorithm>
#include <charconv>

namespace faultline {
namespace {

constexpr uint64_t kPageMask = 4095;
/// Every flat view repeats the same RAM; a guest with more pieces than this is not looked into.
constexpr size_t kSegmentsMax = 256;

std::optional<uint64_t> Hex(std::string_view& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool Skip(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

// "  0000000000100000-000000003fffffff (prio 0, ram): ram0 @0000000000100000"; no "@": from 0 on.
std::optional<GuestLayout::Segment> GuestLayout::ParseLine(std::string_view line,
                                                           const std::vector<VmRegion>& regions) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto start = Hex(line);
  if (!start || !Skip(line, "-")) return std::nullopt;
  const auto last = Hex(line);
  constexpr std::string_view kKind = ", ram): ";
  const size_t kind = line.find(kKind);
  if (!last || *last < *start || kind == std::string_view::npos) return std::nullopt;
  line.remove_prefix(kind + kKind.size());
  std::string_view name = line.substr(0, line.find_first_of(" \r"));
  line.remove_prefix(name.size());
  name.remove_prefix(name.rfind('/') + 1);  // "/objects/ram0" on some machine types
  const auto region = std::find_if(regions.begin(), regions.end(),
                                   [&](const VmRegion& known) { return known.shape.id == name; });
  if (region == regions.end()) return std::nullopt;
  const uint64_t offset = Skip(line, " @") ? Hex(line).value_or(0) : 0;
  if (offset + (*last - *start) >= region->shape.length.value()) return std::nullopt;
  return Segment{GuestAddr(*start),
                 GuestAddr(*last),
                 {static_cast<size_t>(region - regions.begin()), ByteCount(offset)}};
}

GuestLayout GuestLayout::Parse(std::string_view mtree, const std::vector<VmRegion>& regions) {
  GuestLayout layout;
  while (!mtree.empty() && layout.segments_.size() < kSegmentsMax) {
    const size_t end = std::min(mtree.find('\n'), mtree.size());
    if (const auto segment = ParseLine(mtree.substr(0, end), regions)) {
      layout.segments_.push_back(*segment);
    }
    mtree.remove_prefix(std::min(end + 1, mtree.size()));
  }
  return layout;
}

std::optional<RamPlace> GuestLayout::PlaceOf(GuestAddr address) const {
  for (const Segment& segment : segments_) {
    if (address < segment.start || segment.last < address) continue;
    const uint64_t offset = (segment.place.offset + (address - segment.start)).value();
    return RamPlace{segment.place.region, ByteCount(offset & ~kPageMask)};
  }
  return std::nullopt;
}

}  // namespace faultline
