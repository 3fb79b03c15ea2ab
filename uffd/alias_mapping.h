// Our own mapping of a region's file (the alias), or of anonymous memory for staging.
//
// Kept out of core dumps (MADV_DONTDUMP: it is the guest's memory) and out of children
// (MADV_DONTFORK: a fork must not copy page tables of a whole guest). hugetlbfs is mapped with
// MAP_NORESERVE: the VMM has reserved what it needs, the alias must not do so again.
#pragma once

#include <cstddef>
#include <utility>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "uffd/ram_file.h"

namespace faultline {

/// Move-only; unmaps on destruction.
class AliasMapping {
 public:
  /// As readable and writable as the file was opened.
  static Result<AliasMapping> OfFile(const RamFile& file);
  /// Private, empty, takes memory only where it is written.
  static Result<AliasMapping> Anonymous(ByteCount length);

  AliasMapping(AliasMapping&& other) noexcept
      : base_(std::exchange(other.base_, HostAddr())),
        length_(std::exchange(other.length_, ByteCount())) {}
  AliasMapping& operator=(AliasMapping&& other) noexcept;
  AliasMapping(const AliasMapping&) = delete;
  AliasMapping& operator=(const AliasMapping&) = delete;
  ~AliasMapping();

  /// Gives back the page tables of `extent`; the file keeps what it holds, and threads may go on
  /// using the mapping meanwhile. MADV_DONTNEED would empty the tables, but until Linux 6.14 not
  /// free them. False: the kernel would not, and nothing has changed. REQUIRES: made OfFile(file).
  [[nodiscard]] bool DropPageTables(const RamFile& file, ByteExtent extent) const;

  [[nodiscard]] HostAddr base() const { return base_; }
  [[nodiscard]] ByteCount length() const { return length_; }

 private:
  AliasMapping(HostAddr base, ByteCount length) : base_(base), length_(length) {}

  HostAddr base_;
  ByteCount length_;
};

}  // namespace faultline
