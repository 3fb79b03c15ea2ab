#include "uffd/staged_landing.h"

#include <cstring>

namespace faultline {

Result<std::unique_ptr<StagedLanding>> StagedLanding::Create(const GuestRam& ram) {
  FAULTLINE_ASSIGN(AliasMapping staging, AliasMapping::Anonymous(kRunBytesMax));
  // Faulted in now: the first demand fetch must not wait for it.
  std::memset(reinterpret_cast<void*>(staging.base().value()), 0, kRunBytesMax.value());
  return std::unique_ptr<StagedLanding>(new StagedLanding(ram, std::move(staging)));
}

bool StagedLanding::LandsInPlace(PageRun run) const {
  const size_t region = ram_.geometry().RegionOf(run.first);
  return ram_.file(region).file_system() == RamFileSystem::kHugetlbfs;
}

std::span<std::byte> StagedLanding::MemoryOf(PageRun run) {
  if (LandsInPlace(run)) return ram_.window().BytesOf(run);
  return {reinterpret_cast<std::byte*>(staging_.base().value()),
          ram_.geometry().BytesOf(run).value()};
}

bool StagedLanding::Land(PageRun pages, std::span<const std::byte> bytes) {
  full_ = !LandsInPlace(pages) && !ram_.Write(pages, bytes);
  return !full_;
}

}  // namespace faultline
