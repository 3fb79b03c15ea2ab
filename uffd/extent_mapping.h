// A mapping of its own for one extent of a RAM file, made to be pinned (registered with a device)
// and nothing else, so that it can tell afterwards whether what was pinned is still what the file
// has there.
//
// The problem. A pinned page stays where it is. If the guest gives it up (a balloon, free page
// reporting: PUNCH_HOLE) and touches it again, the file has another page there, and a device goes
// on reading the old one, silently.
//
// The proof. A page of this mapping is *present* (pagemap(5), bit 63) only if it is the pinned one:
//   1. Nobody loads or stores through the mapping. Its page table entries are made by the pinning
//      itself (get_user_pages), which takes the page that the entry names, under the entry's lock.
//   2. Pinning with write access faults each page alone: fault-around (mm/memory.c,
//      do_fault_around) is for read faults, so no entry is made on behalf of a neighbour. Each
//      extent has an area of its own (a guard lies beside it), so no neighbour extent does either.
//   3. PUNCH_HOLE removes the entry from every mapping (unmap_mapping_range) before the page leaves
//      the file, and by 1 and 2 nothing brings it back.
//   4. The kernel neither moves nor swaps out a pinned page; it may drop the entry, and splits of
//      huge pages do. Then the page counts as not present: wrong in the harmless direction.
// Needs no right to see page frame numbers.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <utility>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "uffd/ram_file.h"

namespace faultline {

/// Move-only; unmaps on destruction, which the pins survive.
class ExtentMapping {
 public:
  /// REQUIRES: the file was opened kReadWrite; the extent is whole pages of it.
  static Result<ExtentMapping> Of(const RamFile& file, ByteExtent extent);

  ExtentMapping(ExtentMapping&& other) noexcept
      : area_(std::exchange(other.area_, {})), bytes_(std::exchange(other.bytes_, {})) {}
  ExtentMapping& operator=(ExtentMapping&& other) noexcept {
    std::swap(area_, other.area_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~ExtentMapping();

  /// To be pinned, and to be read where present; see above.
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

  /// Calls `visit(offset, length)` for every stretch whose pages are all present, in bytes from the
  /// extent's start, rising.
  [[nodiscard]] Status VisitPresent(
      const std::function<void(ByteCount offset, ByteCount length)>& visit) const;

 private:
  ExtentMapping(std::span<std::byte> area, std::span<std::byte> bytes)
      : area_(area), bytes_(bytes) {}

  std::span<std::byte> area_;  ///< with the guards
  std::span<std::byte> bytes_;
};

}  // namespace faultline
