// All of a VM's RAM, as the engine reaches it: one file and one alias for each region.
//
//   source:       RamAccess::kRead       window() to send from, Read() for what is not known to
//                                        be present, DataRuns() for what is worth moving
//   destination:  RamAccess::kReadWrite  Write() to land in, or window() where memory comes in
//                                        huge pages, with PopulateWrite() ahead of need
//
// Threads: any, after Open. Ownership: `geometry` outlives it; do not move it while a placer or a
// page server refers to it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "engine/core/source_memory.h"
#include "engine/core/vm.h"
#include "uffd/alias_mapping.h"
#include "uffd/ram_file.h"

namespace faultline {

class GuestRam final : public PageReader {
 public:
  /// REQUIRES: vm.regions are the geometry's, in its order.
  static Result<GuestRam> Open(const Geometry& geometry, const VmDescription& vm, RamAccess access);

  [[nodiscard]] const RamWindow& window() const { return window_; }
  [[nodiscard]] const RamFile& file(size_t region) const { return files_[region]; }
  [[nodiscard]] const RamFile& FileOf(PageRun run) const;
  [[nodiscard]] size_t region_count() const { return files_.size(); }
  [[nodiscard]] const Geometry& geometry() const { return window_.geometry(); }

  bool Read(PageRun run, std::span<std::byte> out) override;
  [[nodiscard]] std::optional<FilePlace> PlaceOf(PageRun run) const override;
  [[nodiscard]] bool MapsMany(PageIndex page) const override;
  /// Writes whole pages into the file. False: it has no memory left. REQUIRES: tmpfs.
  [[nodiscard]] bool Write(PageRun run, std::span<const std::byte> bytes) const;

  /// The pages that hold data: rising, not overlapping, never across regions. What is not named
  /// reads as zero. Final only if the guest is stopped. Inflates nothing.
  [[nodiscard]] Result<std::vector<PageRun>> DataRuns() const;

  /// Refuses when a tmpfs has less room than `runs` (of DataRuns) may still need.
  [[nodiscard]] Status CheckRoom(std::span<const PageRun> runs) const;
  /// Whether memory is put there ahead of need: where it comes in huge pages. On 4 KiB tmpfs the
  /// write that lands a page allocates it, without zeroing it first, for less than any way of
  /// doing it in advance.
  [[nodiscard]] bool AllocatesAhead(PageRun run) const;
  /// Puts memory under the alias, so that landing does not have to. In pieces of a few MiB, so
  /// that a signal or the OOM killer is not kept waiting. What is there stays as it is.
  [[nodiscard]] Status PopulateWrite(PageRun run) const;
  /// Gives back the page tables of our mapping of `run`, a part of one region; the file is not
  /// touched. False: the kernel would not.
  [[nodiscard]] bool DropPageTables(PageRun run) const;

  /// Where the run lies in its region's file.
  [[nodiscard]] ByteExtent ExtentOf(PageRun run) const;

 private:
  GuestRam(int pid, const Geometry& geometry, std::vector<RamFile> files,
           std::vector<AliasMapping> aliases);

  int pid_;
  std::vector<RamFile> files_;
  std::vector<AliasMapping> aliases_;
  RamWindow window_;
};

/// Notes `runs` (of DataRuns) in `presence`.
void MarkPresent(std::span<const PageRun> runs, PresenceMap& presence);

}  // namespace faultline
