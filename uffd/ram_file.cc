#include "uffd/ram_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "engine/core/check.h"
#include "uffd/proc_maps.h"
#include "uffd/shmem_huge.h"
#include "uffd/system_error.h"

namespace faultline {

namespace {

struct Backing {
  RamFileSystem file_system;
  PageSize page_size;
};

off_t Off(ByteCount bytes) { return static_cast<off_t>(bytes.value()); }

/// Nothing: neither tmpfs nor hugetlbfs.
std::optional<Backing> BackingOf(int fd) {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return std::nullopt;
  if (info.f_type == TMPFS_MAGIC) return Backing{RamFileSystem::kTmpfs, kSmallPageSize};
  if (info.f_type != HUGETLBFS_MAGIC) return std::nullopt;
  return Backing{RamFileSystem::kHugetlbfs, PageSize(static_cast<uint64_t>(info.f_bsize))};
}

/// map_files is indexed by the mappings as they are, not merged.
Result<UniqueFd> OpenMapFile(int pid, const ProcMapping& mapping, int flags) {
  const std::string path =
      fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping.start.value(), mapping.end.value());
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd.valid()) return fd;
  return SystemFailure(fmt::format("open guest RAM \"{}\" through {} (EPERM: run the engine as "
                                   "root or with CAP_SYS_ADMIN; ENOENT: the VMM changed its "
                                   "mappings, try again)",
                                   mapping.path, path),
                       errno);
}

Result<ProcMapping> MappingAt(const std::vector<ProcMapping>& mappings, int pid, VmmAddr start) {
  for (const ProcMapping& mapping : mappings) {
    if (mapping.start <= start && start < mapping.end) return mapping;
  }
  return Fail(ErrorKind::kRefused, fmt::format("process {} has no mapping at {:#x}: is this the "
                                               "guest's process?",
                                               pid, start.value()));
}

Status CheckCovered(const VmRegion& region, const std::vector<ProcMapping>& mappings) {
  const VmmAddr end = region.base + region.shape.length;
  for (const ProcMapping& mapping : MergeFileMappings(mappings)) {
    if (mapping.start > region.base || region.base >= mapping.end) continue;
    if (mapping.end < end) break;
    const ByteCount offset = mapping.file_offset + (region.base - mapping.start);
    if (offset == region.file_offset) return {};
    return Fail(ErrorKind::kRefused,
                fmt::format("guest RAM region {} starts at offset {:#x} of its file, not {:#x}",
                            region.shape.id, offset.value(), region.file_offset.value()));
  }
  return Fail(ErrorKind::kRefused,
              fmt::format("guest RAM region {} ({:#x}+{:#x}) is not one mapping of one file",
                          region.shape.id, region.base.value(), region.shape.length.value()));
}

Status CheckBacking(const VmRegion& region, const ProcMapping& mapping,
                    const std::optional<Backing>& backing) {
  if (!backing) {
    return Fail(ErrorKind::kRefused,
                fmt::format("guest RAM region {} is the file \"{}\", which is neither on tmpfs "
                            "nor on hugetlbfs: give its memory-backend-file a mem-path on one",
                            region.shape.id, mapping.path));
  }
  if (backing->page_size != region.shape.page_size) {
    return Fail(ErrorKind::kRefused,
                fmt::format("guest RAM region {} has pages of {} bytes, not {}", region.shape.id,
                            backing->page_size.bytes(), region.shape.page_size.bytes()));
  }
  return {};
}

Status CheckLength(const VmRegion& region, const struct stat& info) {
  const ByteCount needed = region.file_offset + region.shape.length;
  if (static_cast<uint64_t>(info.st_size) >= needed.value()) return {};
  return Fail(ErrorKind::kRefused,
              fmt::format("the file of guest RAM region {} has {} bytes, its mapping needs {}",
                          region.shape.id, info.st_size, needed.value()));
}

}  // namespace

Result<RamFile> RamFile::Open(int pid, const VmRegion& region, RamAccess access) {
  FAULTLINE_CHECK(access != RamAccess::kInvalid);
  FAULTLINE_ASSIGN(const std::vector<ProcMapping> mappings, ReadProcMaps(pid));
  FAULTLINE_ASSIGN(const ProcMapping mapping, MappingAt(mappings, pid, region.base));
  if (!mapping.shared || mapping.inode == 0) {
    return Fail(ErrorKind::kRefused,
                fmt::format("guest RAM region {} is private memory: start the VMM with "
                            "memory-backend-file,…,share=on",
                            region.shape.id));
  }
  FAULTLINE_TRY(CheckCovered(region, mappings));
  FAULTLINE_ASSIGN(UniqueFd fd,
                   OpenMapFile(pid, mapping, access == RamAccess::kRead ? O_RDONLY : O_RDWR));
  const std::optional<Backing> backing = BackingOf(fd.get());
  FAULTLINE_TRY(CheckBacking(region, mapping, backing));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return SystemFailure("fstat of guest RAM", errno);
  FAULTLINE_TRY(CheckLength(region, info));
  const bool huge =
      backing->file_system == RamFileSystem::kHugetlbfs || TmpfsGivesHugePages(pid, info);
  return RamFile(std::move(fd), region, backing->file_system, huge, info.st_dev, access);
}

Result<PageSize> RamFile::PageSizeOfMapping(int pid, VmmAddr start) {
  FAULTLINE_ASSIGN(const std::vector<ProcMapping> mappings, ReadProcMaps(pid));
  FAULTLINE_ASSIGN(const ProcMapping mapping, MappingAt(mappings, pid, start));
  FAULTLINE_ASSIGN(const UniqueFd fd, OpenMapFile(pid, mapping, O_RDONLY));
  const std::optional<Backing> backing = BackingOf(fd.get());
  if (backing) return backing->page_size;
  return Fail(ErrorKind::kRefused,
              fmt::format("\"{}\" is neither on tmpfs nor on hugetlbfs", mapping.path));
}

Result<ByteCount> RamFile::AllocatedBytes() const {
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) return SystemFailure("fstat of guest RAM", errno);
  return ByteCount(static_cast<uint64_t>(info.st_blocks) * 512);
}

Status RamFile::CheckRoom(ByteCount needed) const {
  struct statfs info {};
  if (::fstatfs(fd_.get(), &info) != 0) return SystemFailure("fstatfs of guest RAM", errno);
  const uint64_t free = info.f_bavail * static_cast<uint64_t>(info.f_bsize);
  const bool unlimited = info.f_blocks == 0;
  if (unlimited || free >= needed.value()) return {};
  return Fail(ErrorKind::kRefused,
              fmt::format("no room for the guest: the tmpfs of region {} has {} MiB free, {} are "
                          "needed; make it larger (mount -o remount,size=…) or free some of it",
                          region_.shape.id, free >> 20, (needed.value() >> 20) + 1));
}

bool RamFile::ReadAt(ByteCount offset, std::span<std::byte> out) const {
  off_t at = Off(region_.file_offset + offset);
  while (!out.empty()) {
    const ssize_t got = ::pread(fd_.get(), out.data(), out.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out = out.subspan(static_cast<size_t>(got));
    at += got;
  }
  return true;
}

std::optional<FilePlace> RamFile::PlaceAt(ByteCount offset) const {
  if (file_system_ != RamFileSystem::kTmpfs) return std::nullopt;
  return FilePlace{fd_.get(), region_.file_offset + offset};
}

bool RamFile::WriteAt(ByteCount offset, std::span<const std::byte> bytes) const {
  off_t at = Off(region_.file_offset + offset);
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_.get(), bytes.data(), bytes.size(), at);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(put));
    at += put;
  }
  return true;
}

void RamFile::Empty(ByteExtent extent) const {
  off_t at = Off(region_.file_offset + extent.offset);
  const off_t end = at + Off(extent.length);
  int failed = 0;
  do {
    failed = ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at);
  } while (failed != 0 && errno == EINTR);
  if (failed == 0) return;
  // A sealed or otherwise unwilling file: zeroes that take memory are right as well. What must
  // never happen is that stale bytes stay: better no engine (the guest waits) than wrong bytes.
  alignas(64) static constexpr std::array<std::byte, 4096> kZeroes{};
  while (at < end) {
    const ssize_t put = ::pwrite(fd_.get(), kZeroes.data(),
                                 std::min(kZeroes.size(), static_cast<size_t>(end - at)), at);
    FAULTLINE_CHECK(put > 0 || errno == EINTR);
    at += std::max<ssize_t>(put, 0);
  }
}

bool RamFile::Allocate(ByteExtent extent) const {
  const off_t at = Off(region_.file_offset + extent.offset);
  int failed = 0;
  do {
    failed = ::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, at, Off(extent.length));
  } while (failed != 0 && errno == EINTR);
  return failed == 0;
}

Status RamFile::VisitData(const std::function<void(ByteExtent)>& visit) const {
  const off_t start = Off(region_.file_offset);
  const off_t end = start + Off(region_.shape.length);
  // The descriptor is ours alone and no call of ours uses its position.
  for (off_t at = start; at < end;) {
    const off_t data = ::lseek(fd_.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};
    if (data < 0) return SystemFailure("find the data of guest RAM (SEEK_DATA)", errno);
    if (data >= end) return {};
    const off_t hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    // The data may have been punched since: then there is no hole behind it but one before.
    if (hole < 0) return SystemFailure("find the holes of guest RAM (SEEK_HOLE)", errno);
    const off_t stop = std::min(hole, end);
    if (stop > data) {
      visit({ByteCount(static_cast<uint64_t>(data - start)),
             ByteCount(static_cast<uint64_t>(stop - data))});
    }
    at = std::max(stop, data + 1);
  }
  return {};
}

}  // namespace faultline
