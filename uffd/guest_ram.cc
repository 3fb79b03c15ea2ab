#include "uffd/guest_ram.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "engine/core/check.h"
#include "uffd/ram_scan.h"
#include "uffd/system_error.h"

namespace faultline {

namespace {

// Linux 5.14 in <asm-generic/mman-common.h>; glibc 2.36 has it as well.
static_assert(MADV_POPULATE_WRITE == 23);

/// Small enough that a fatal signal is acted on at once, large enough that calls cost nothing.
constexpr size_t kPopulatePieceBytes = size_t{4} << 20;

std::vector<HostAddr> BasesOf(const std::vector<AliasMapping>& aliases) {
  std::vector<HostAddr> bases;
  for (const AliasMapping& alias : aliases) bases.push_back(alias.base());
  return bases;
}

Status Populate(std::span<std::byte> piece) {
  constexpr int kAttemptsMax = 100;  // EINTR, and EAGAIN where memory moves meanwhile
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    if (::madvise(piece.data(), piece.size(), MADV_POPULATE_WRITE) == 0) return {};
    if (errno != EINTR && errno != EAGAIN) break;
  }
  return SystemFailure(
      fmt::format("allocate {} bytes of guest RAM ahead of need (EFAULT, ENOMEM: is there room in "
                  "the huge page pool, or on the tmpfs?; EINVAL: Linux 5.14 is needed)",
                  piece.size()),
      errno);
}

/// Appends, or grows the last run if that is of the same region and touches this one.
void AppendJoined(std::vector<PageRun>& runs, PageRun run, PageIndex region_first) {
  const bool joins =
      !runs.empty() && runs.back().first >= region_first && run.first <= runs.back().end();
  if (!joins) {
    runs.push_back(run);
  } else if (run.end() > runs.back().end()) {
    runs.back().count = run.end() - runs.back().first;
  }
}

}  // namespace

GuestRam::GuestRam(int pid, const Geometry& geometry, std::vector<RamFile> files,
                   std::vector<AliasMapping> aliases)
    : pid_(pid),
      files_(std::move(files)),
      aliases_(std::move(aliases)),
      window_(geometry, BasesOf(aliases_)) {}

Result<GuestRam> GuestRam::Open(const Geometry& geometry, const VmDescription& vm,
                                RamAccess access) {
  FAULTLINE_CHECK(vm.regions.size() == geometry.region_count());
  std::vector<RamFile> files;
  std::vector<AliasMapping> aliases;
  for (size_t i = 0; i < vm.regions.size(); ++i) {
    FAULTLINE_CHECK(vm.regions[i].shape == geometry.shape(i));
    FAULTLINE_ASSIGN(RamFile file, RamFile::Open(vm.pid, vm.regions[i], access));
    FAULTLINE_ASSIGN(AliasMapping alias, AliasMapping::OfFile(file));
    files.push_back(std::move(file));
    aliases.push_back(std::move(alias));
  }
  return GuestRam(vm.pid, geometry, std::move(files), std::move(aliases));
}

const RamFile& GuestRam::FileOf(PageRun run) const {
  return files_[geometry().RegionOf(run.first)];
}

ByteExtent GuestRam::ExtentOf(PageRun run) const {
  return {geometry().OffsetInRegion(run.first), geometry().BytesOf(run)};
}

bool GuestRam::Read(PageRun run, std::span<std::byte> out) {
  FAULTLINE_CHECK(out.size() == geometry().BytesOf(run).value());
  return FileOf(run).ReadAt(geometry().OffsetInRegion(run.first), out);
}

std::optional<FilePlace> GuestRam::PlaceOf(PageRun run) const {
  return FileOf(run).PlaceAt(geometry().OffsetInRegion(run.first));
}

Result<std::vector<PageRun>> GuestRam::DataRuns() const {
  std::vector<PageRun> runs;
  for (size_t region = 0; region < files_.size(); ++region) {
    const RamFile& file = files_[region];
    const PageIndex first = geometry().pages_of(region).first;
    const uint64_t page_bytes = geometry().shape(region).page_size.bytes();
    const auto visit = [&](ByteExtent extent) {
      const uint64_t begin = extent.offset.value() / page_bytes;
      const uint64_t end = (extent.offset + extent.length).value() + page_bytes - 1;
      AppendJoined(runs, {first + PageCount(begin), PageCount(end / page_bytes - begin)}, first);
    };
    FAULTLINE_TRY(file.file_system() == RamFileSystem::kHugetlbfs
                      ? VisitHugePageData(pid_, file, visit)
                      : file.VisitData(visit));
  }
  return runs;
}

bool GuestRam::Write(PageRun run, std::span<const std::byte> bytes) const {
  FAULTLINE_CHECK(bytes.size() == geometry().BytesOf(run).value());
  return FileOf(run).WriteAt(geometry().OffsetInRegion(run.first), bytes);
}

bool GuestRam::AllocatesAhead(PageRun run) const { return FileOf(run).gives_huge_pages(); }

bool GuestRam::MapsMany(PageIndex page) const {
  return FileOf({page, PageCount(1)}).gives_huge_pages();
}

Status GuestRam::PopulateWrite(PageRun run) const {
  std::span<std::byte> rest = window_.BytesOf(run);
  // A page larger than a piece is populated whole by its first piece.
  while (!rest.empty()) {
    const size_t size = std::min(rest.size(), kPopulatePieceBytes);
    FAULTLINE_TRY(Populate(rest.first(size)));
    rest = rest.subspan(size);
  }
  return {};
}

Status GuestRam::CheckRoom(std::span<const PageRun> runs) const {
  std::map<uint64_t, ByteCount> needed;  // by tmpfs: several regions may share one
  for (const PageRun& run : runs) {
    if (FileOf(run).file_system() == RamFileSystem::kHugetlbfs) continue;  // has a pool of its own
    needed[FileOf(run).device()] += geometry().BytesOf(run);
  }
  std::map<uint64_t, ByteCount> there;
  for (const RamFile& file : files_) {
    FAULTLINE_ASSIGN(const ByteCount allocated, file.AllocatedBytes());
    there[file.device()] += allocated;
  }
  for (const RamFile& file : files_) {
    const ByteCount all = needed[file.device()];
    FAULTLINE_TRY(file.CheckRoom(all - std::min(all, there[file.device()])));
  }
  return {};
}

bool GuestRam::DropPageTables(PageRun run) const {
  const size_t region = geometry().RegionOf(run.first);
  return aliases_[region].DropPageTables(files_[region], ExtentOf(run));
}

void MarkPresent(std::span<const PageRun> runs, PresenceMap& presence) {
  for (const PageRun run : runs) presence.MarkPresent(run);
}

}  // namespace faultline
