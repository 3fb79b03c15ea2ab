#include "uffd/extent_mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "engine/core/check.h"
#include "uffd/system_error.h"

namespace faultline {
namespace {

constexpr uint64_t kEntryBytes = 4096;  // a pagemap entry's, also inside of huge pages
constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kHugeBytes = uint64_t{2} << 20;

/// What a huge page needs: address and file offset alike, modulo its size.
uint64_t AlignmentFor(const RamFile& file) {
  const uint64_t page = file.region().shape.page_size.bytes();
  return std::max(page, file.gives_huge_pages() ? kHugeBytes : page);
}

std::span<std::byte> Reserve(uint64_t length) {
  void* const base =
      ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return {};
  return {static_cast<std::byte*>(base), length};
}

tl::unexpected<Error> CannotMap(uint64_t length, int error_number) {
  return SystemFailure(
      fmt::format("map {} KiB of guest RAM to be registered (ENOMEM: vm.max_map_count?)",
                  length >> 10),
      error_number);
}

}  // namespace

Result<ExtentMapping> ExtentMapping::Of(const RamFile& file, ByteExtent extent) {
  FAULTLINE_CHECK(file.access() == RamAccess::kReadWrite);
  const uint64_t length = extent.length.value();
  const uint64_t alignment = AlignmentFor(file);
  const uint64_t offset = (file.region().file_offset + extent.offset).value();
  const std::span<std::byte> area = Reserve(length + 2 * alignment);
  if (area.empty()) return CannotMap(length, errno);
  const uint64_t behind_guard = reinterpret_cast<uint64_t>(area.data()) + kEntryBytes;
  const uint64_t gap = (offset - behind_guard) % alignment;  // a power of two: wrapping is right
  std::byte* const at = area.data() + kEntryBytes + gap;
  if (::mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file.fd(),
             static_cast<off_t>(offset)) == MAP_FAILED) {
    const int error_number = errno;
    ::munmap(area.data(), area.size());
    return CannotMap(length, error_number);
  }
  (void)::madvise(at, length, MADV_DONTFORK);
  (void)::madvise(at, length, MADV_DONTDUMP);
  return ExtentMapping(area, {at, length});
}

ExtentMapping::~ExtentMapping() {
  if (!area_.empty()) ::munmap(area_.data(), area_.size());
}

Status ExtentMapping::VisitPresent(
    const std::function<void(ByteCount offset, ByteCount length)>& visit) const {
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return SystemFailure("open /proc/self/pagemap", errno);
  std::vector<uint64_t> entries(bytes_.size() / kEntryBytes);
  const uint64_t first = reinterpret_cast<uint64_t>(bytes_.data()) / kEntryBytes;
  const size_t wanted = entries.size() * sizeof(uint64_t);
  const ssize_t got =
      ::pread(pagemap.get(), entries.data(), wanted, static_cast<off_t>(first * sizeof(uint64_t)));
  if (got != static_cast<ssize_t>(wanted)) {
    return SystemFailure("read /proc/self/pagemap", got < 0 ? errno : EIO);
  }
  const auto is_present = [](uint64_t entry) { return (entry & kPresent) != 0; };
  for (auto at = entries.begin(); at != entries.end();) {
    const auto begin = std::find_if(at, entries.end(), is_present);
    at = std::find_if_not(begin, entries.end(), is_present);
    if (begin == at) break;
    visit(ByteCount(static_cast<uint64_t>(begin - entries.begin()) * kEntryBytes),
          ByteCount(static_cast<uint64_t>(at - begin) * kEntryBytes));
  }
  return {};
}

}  // namespace faultline
