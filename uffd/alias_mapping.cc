#include "uffd/alias_mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>

#include "uffd/system_error.h"

namespace faultline {

namespace {

Result<HostAddr> Map(ByteCount length, int protection, int flags, int fd, ByteCount offset) {
  void* base =
      ::mmap(nullptr, length.value(), protection, flags, fd, static_cast<off_t>(offset.value()));
  if (base == MAP_FAILED) {
    return SystemFailure(
        fmt::format("map {} bytes (guest RAM or room for it) into the engine", length.value()),
        errno);
  }
  // Both are advice: without them a core dump is larger and a fork slower.
  (void)::madvise(base, length.value(), MADV_DONTDUMP);
  (void)::madvise(base, length.value(), MADV_DONTFORK);
  return HostAddr(reinterpret_cast<uint64_t>(base));
}

}  // namespace

Result<AliasMapping> AliasMapping::OfFile(const RamFile& file) {
  const VmRegion& region = file.region();
  const int protection = file.access() == RamAccess::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  FAULTLINE_ASSIGN(const HostAddr base,
                   Map(region.shape.length, protection, MAP_SHARED | MAP_NORESERVE, file.fd(),
                       region.file_offset));
  return AliasMapping(base, region.shape.length);
}

Result<AliasMapping> AliasMapping::Anonymous(ByteCount length) {
  FAULTLINE_ASSIGN(const HostAddr base,
                   Map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, ByteCount(0)));
  return AliasMapping(base, length);
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
