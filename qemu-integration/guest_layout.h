// Where the guest sees its RAM: guest-physical addresses to places in the memory backends, read
// from QEMU's `info mtree -f` (docs/devel/memory.rst in QEMU, "Flat views").
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "engine/core/units.h"
#include "engine/core/vm.h"

namespace faultline {

class GuestLayout {
 public:
  /// Takes the lines that it understands, of the backends in `regions`, and no other.
  static GuestLayout Parse(std::string_view mtree, const std::vector<VmRegion>& regions);

  /// The 4 KiB page that holds `address`; nothing where no backend is.
  [[nodiscard]] std::optional<RamPlace> PlaceOf(GuestAddr address) const;
  [[nodiscard]] bool empty() const { return segments_.empty(); }

 private:
  struct Segment {
    GuestAddr start;
    GuestAddr last;  ///< inclusive
    RamPlace place;  ///< of start
  };
  static std::optional<Segment> ParseLine(std::string_view line,
                                          const std::vector<VmRegion>& regions);

  std::vector<Segment> segments_;
};

}  // namespace faultline
