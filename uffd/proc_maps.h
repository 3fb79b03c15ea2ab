// /proc/PID/maps: where a process has mapped what.
//
// Guest RAM is one file mapped once, but the kernel may show it as several neighbouring
// mappings (mbind, madvise and mprotect split them); MergeFileMappings joins what belongs
// together. Source: proc(5), fs/proc/task_mmu.c.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"

namespace faultline {

struct ProcMapping {
  VmmAddr start;
  VmmAddr end;
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  ByteCount file_offset;
  uint64_t device = 0;  ///< as in stat.st_dev
  uint64_t inode = 0;   ///< 0: no file (anonymous memory)
  std::string path;     ///< of a deleted file it ends in " (deleted)"; "[vdso]", "[heap]", …

  [[nodiscard]] ByteCount length() const { return end - start; }
};

/// One line; a line that cannot be read is an error.
Result<ProcMapping> ParseProcMapsLine(std::string_view line);
/// All mappings of a process, rising.
Result<std::vector<ProcMapping>> ReadProcMaps(int pid);

/// Joins neighbours of the same file whose offsets go on. REQUIRES: rising. Drops what has no file.
std::vector<ProcMapping> MergeFileMappings(const std::vector<ProcMapping>& mappings);
/// Those of one file: by its numbers (as stat(2) gives them)…
std::vector<ProcMapping> MappingsOfFile(const std::vector<ProcMapping>& merged, uint64_t device,
                                        uint64_t inode);
/// …or by its path, which a deleted file still shows. For a directory that a VMM was given, use
/// the prefix of the name that it makes up (QEMU: "/dev/shm/qemu_back_mem.ram0.").
std::vector<ProcMapping> MappingsOfPathPrefix(const std::vector<ProcMapping>& merged,
                                              std::string_view prefix);

}  // namespace faultline
