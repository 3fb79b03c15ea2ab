#include "uffd/alias_mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "uffd/system_error.h"

namespace faultline {

namespace {

/// Without the first two a core dump is larger and a fork slower. The third is for a tmpfs with
/// huge=advise, which gives huge pages to those who say so; to others it is nothing new.
void Advise(void* base, ByteCount length) {
  (void)::madvise(base, length.value(), MADV_DONTDUMP);
  (void)::madvise(base, length.value(), MADV_DONTFORK);
  (void)::madvise(base, length.value(), MADV_HUGEPAGE);
}

Result<HostAddr> Map(ByteCount length, int protection, int flags, int fd, ByteCount offset) {
  void* base =
      ::mmap(nullptr, length.value(), protection, flags, fd, static_cast<off_t>(offset.value()));
  if (base == MAP_FAILED) {
    return SystemFailure(
        fmt::format("map {} bytes (guest RAM or room for it) into the engine", length.value()),
        errno);
  }
  Advise(base, length);
  return HostAddr(reinterpret_cast<uint64_t>(base));
}

int ProtectionOf(const RamFile& file) {
  return file.access() == RamAccess::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
}

constexpr int kAliasFlags = MAP_SHARED | MAP_NORESERVE;

}  // namespace

Result<AliasMapping> AliasMapping::OfFile(const RamFile& file) {
  const VmRegion& region = file.region();
  FAULTLINE_ASSIGN(const HostAddr base, Map(region.shape.length, ProtectionOf(file), kAliasFlags,
                                            file.fd(), region.file_offset));
  return AliasMapping(base, region.shape.length);
}

Result<AliasMapping> AliasMapping::Anonymous(ByteCount length) {
  FAULTLINE_ASSIGN(const HostAddr base,
                   Map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, ByteCount(0)));
  return AliasMapping(base, length);
}

/// The same bytes of the same file, mapped over themselves: for a thread that touches them there is
/// always one mapping or the other. The bare system call, because a race detector takes mmap() for
/// a write to all of it.
bool AliasMapping::DropPageTables(const RamFile& file, ByteExtent extent) const {
  void* const at = reinterpret_cast<void*>((base_ + extent.offset).value());
  const auto offset = static_cast<off_t>((file.region().file_offset + extent.offset).value());
  const long mapped = ::syscall(SYS_mmap, at, extent.length.value(), ProtectionOf(file),
                                kAliasFlags | MAP_FIXED, file.fd(), offset);
  if (mapped != reinterpret_cast<long>(at)) return false;
  Advise(at, extent.length);  // and with equal advice the kernel joins it with its neighbours
  return true;
}

AliasMapping& AliasMapping::operator=(AliasMapping&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(length_, other.length_);
  return *this;
}

AliasMapping::~AliasMapping() {
  if (base_ != HostAddr()) ::munmap(reinterpret_cast<void*>(base_.value()), length_.value());
}

}  // namespace faultline
