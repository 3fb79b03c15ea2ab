#include "uffd/ram_scan.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "engine/core/zero_check.h"
#include "uffd/system_error.h"

namespace faultline {

namespace {

constexpr uint64_t kPagemapPageBytes = 4096;  // one entry each, also inside of huge pages
constexpr uint64_t kPagemapPresent = uint64_t{1} << 63;
constexpr uint64_t kPagemapSwapped = uint64_t{1} << 62;

/// One flag for each page of the region: mapped by the VMM.
Result<std::vector<bool>> MappedPages(int pid, const VmRegion& region) {
  const std::string path = fmt::format("/proc/{}/pagemap", pid);
  const UniqueFd pagemap(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return SystemFailure("open " + path, errno);
  const uint64_t page_bytes = region.shape.page_size.bytes();
  std::vector<bool> mapped(region.shape.length.value() / page_bytes);
  for (size_t page = 0; page < mapped.size(); ++page) {
    const uint64_t address = region.base.value() + page * page_bytes;
    uint64_t entry = 0;
    const ssize_t got = ::pread(pagemap.get(), &entry, sizeof(entry),
                                static_cast<off_t>(address / kPagemapPageBytes * sizeof(entry)));
    if (got != sizeof(entry)) return SystemFailure("read " + path, got < 0 ? errno : EIO);
    mapped[page] = (entry & (kPagemapPresent | kPagemapSwapped)) != 0;
  }
  return mapped;
}

/// Marks the pages that hold data although the VMM has not mapped them.
Status AddUnmappedData(const RamFile& file, std::vector<bool>& data) {
  const uint64_t page_bytes = file.region().shape.page_size.bytes();
  std::vector<std::byte> content(page_bytes);
  for (size_t page = 0; page < data.size(); ++page) {
    if (data[page]) continue;
    if (!file.ReadAt(ByteCount(page * page_bytes), content)) {
      return SystemFailure("read guest RAM of region " + file.region().shape.id, errno);
    }
    data[page] = !IsAllZero(content);
  }
  return {};
}

}  // namespace

Status VisitHugePageData(int pid, const RamFile& file,
                         const std::function<void(ByteExtent)>& visit) {
  const uint64_t page_bytes = file.region().shape.page_size.bytes();
  FAULTLINE_ASSIGN(std::vector<bool> data, MappedPages(pid, file.region()));
  FAULTLINE_ASSIGN(const ByteCount allocated, file.AllocatedBytes());
  const auto mapped = static_cast<uint64_t>(std::count(data.begin(), data.end(), true));
  if (allocated.value() > mapped * page_bytes) FAULTLINE_TRY(AddUnmappedData(file, data));
  for (size_t page = 0; page < data.size(); ++page) {
    if (data[page]) visit({ByteCount(page * page_bytes), ByteCount(page_bytes)});
  }
  return {};
}

}  // namespace faultline
