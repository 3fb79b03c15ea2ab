// One region's file: guest RAM of another process, opened from outside.
//
// Opened through /proc/PID/map_files, so it may be unlinked, be in another mount namespace or
// have had no name ever (memfd). Offsets given to the calls count from the start of the region;
// where the region starts in the file is known here only.
//
// Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (Linux 5.9) in the initial user namespace.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "engine/core/result.h"
#include "engine/core/source_memory.h"
#include "engine/core/units.h"
#include "engine/core/vm.h"
#include "uffd/unique_fd.h"

namespace faultline {

enum class RamAccess : uint8_t { kInvalid = 0, kRead, kReadWrite };
enum class RamFileSystem : uint8_t { kInvalid = 0, kTmpfs, kHugetlbfs };

/// Bytes of a region, from its start.
struct ByteExtent {
  ByteCount offset;
  ByteCount length;
};

class RamFile {
 public:
  /// Refuses: private mappings, files on a disk, a region that its mapping or file does not
  /// cover, a page size other than the file's.
  static Result<RamFile> Open(int pid, const VmRegion& region, RamAccess access);
  /// The page size that a mapping's file has: what RegionShape::page_size must say.
  /// `start` is the start of a shared file mapping of `pid` that /proc/PID/maps shows.
  static Result<PageSize> PageSizeOfMapping(int pid, VmmAddr start);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const VmRegion& region() const { return region_; }
  [[nodiscard]] RamFileSystem file_system() const { return file_system_; }
  [[nodiscard]] RamAccess access() const { return access_; }
  /// Its memory comes in huge pages: hugetlbfs, or a tmpfs that gives them. There it is cheap to
  /// allocate ahead of need, and landing in place needs nothing more.
  [[nodiscard]] bool gives_huge_pages() const { return gives_huge_pages_; }
  /// What the file occupies, all of it: for reports and for the tests of sparseness.
  [[nodiscard]] Result<ByteCount> AllocatedBytes() const;

  /// Which file system it is on.
  [[nodiscard]] uint64_t device() const { return device_; }
  /// Refuses when that has less than `needed` free. Nothing is reserved: it can still fill up.
  [[nodiscard]] Status CheckRoom(ByteCount needed) const;

  /// Fills `out` from `offset`. A hole gives zeroes and stays one. Any thread.
  [[nodiscard]] bool ReadAt(ByteCount offset, std::span<std::byte> out) const;
  /// Where `offset` lies for a transport that sends from files; hugetlbfs has no such way.
  [[nodiscard]] std::optional<FilePlace> PlaceAt(ByteCount offset) const;
  /// Writes `bytes` at `offset`. False: no memory left. tmpfs only. Any thread.
  [[nodiscard]] bool WriteAt(ByteCount offset, std::span<const std::byte> bytes) const;
  /// Frees the memory: reads as zero afterwards. Falls back to writing zeroes.
  void Empty(ByteExtent extent) const;
  /// Puts zeroed memory where none is, without touching what is there. False: no memory left.
  [[nodiscard]] bool Allocate(ByteExtent extent) const;

  /// Calls `visit` with every extent that may hold data, rising. tmpfs only: hugetlbfs calls
  /// everything data (ram_scan.h knows better).
  [[nodiscard]] Status VisitData(const std::function<void(ByteExtent)>& visit) const;

 private:
  RamFile(UniqueFd fd, VmRegion region, RamFileSystem file_system, bool gives_huge_pages,
          uint64_t device, RamAccess access)
      : fd_(std::move(fd)),
        region_(std::move(region)),
        file_system_(file_system),
        gives_huge_pages_(gives_huge_pages),
        device_(device),
        access_(access) {}

  UniqueFd fd_;
  VmRegion region_;
  RamFileSystem file_system_;
  bool gives_huge_pages_;
  uint64_t device_;
  RamAccess access_;
};

}  // namespace faultline
