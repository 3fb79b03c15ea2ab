// What /proc says about QEMU's process: its mappings, files and locks. See proc(5).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"

namespace faultline {

/// One or more neighbouring VMAs that show one file without a gap.
struct MappedFile {
  VmmAddr base;
  ByteCount length;
  ByteCount file_offset;
  bool shared = false;
  std::string device;  ///< "00:16"
  uint64_t inode = 0;
  std::string path;  ///< without " (deleted)"
  bool deleted = false;
  ByteCount first_length{};  ///< of the first VMA alone: /proc/PID/map_files knows it by that
};

/// Parses the text of /proc/PID/maps: file mappings only, VMAs that continue one another merged
/// (a uffd, mlock or huge-page advice splits them). Lines it does not understand are left out.
std::vector<MappedFile> ParseMaps(std::string_view text);

enum class FileSystem : unsigned char { kOther = 0, kTmpfs, kHugetlbfs };

/// Of the file behind a mapping, which may have no name any more.
struct FileFacts {
  FileSystem filesystem = FileSystem::kOther;
  PageSize page_size;
  ByteCount populated;  ///< memory that the file holds now
  std::string huge;     ///< tmpfs: the mount's huge= option ("never" if it has none)
};

/// The file behind a mapping, whether it has a name or not: a link in /proc/PID/map_files, which
/// needs root or CAP_CHECKPOINT_RESTORE.
std::string MapFileLink(int pid, const MappedFile& mapping);

/// Reads through MapFileLink.
Result<FileFacts> StatMapping(int pid, const MappedFile& mapping);

Result<std::vector<MappedFile>> ReadMaps(int pid);
/// /proc/PID/comm.
Result<std::string> ProcessName(int pid);
/// VmLck of /proc/PID/status.
Result<ByteCount> LockedMemory(int pid);
/// Targets of /proc/PID/fd/*.
Result<std::vector<std::string>> OpenFiles(int pid);
/// Whether the process has the UNIX socket with that name open. Nothing if the name is not in
/// /proc/PID/net/unix (another network namespace, a symlink), so that nobody can tell.
Result<std::optional<bool>> HoldsSocket(int pid, const std::string& path);

}  // namespace faultline
