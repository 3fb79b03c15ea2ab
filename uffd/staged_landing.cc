#include "uffd/staged_landing.h"

#include <cstring>

namespace faultline {

Result<std::unique_ptr<StagedLanding>> StagedLanding::Create(const GuestRam& ram) {
  FAULTLINE_ASSIGN(AliasMapping staging, AliasMapping::Anonymous(kRunBytesMax));
  // Faulted in now: the first demand fetch must not wait for it.
  std::memset(reinterpret_cast<void*>(staging.base().value()), 0, kRunBytesMax.value());
  return std::unique_ptr<StagedLanding>(new StagedLanding(ram, std::move(staging)));
}

bool StagedLanding::LandsInPlace(PageRun run) const { return ram_.AllocatesAhead(run); }

std::span<std::byte> StagedLanding::MemoryOf(PageRun run) {
  if (LandsInPlace(run)) return ram_.window().BytesOf(run);
  return {reinterpret_cast<std::byte*>(staging_.base().value()),
          ram_.geometry().BytesOf(run).value()};
}

// In place it is the receive that fails (EFAULT), and nobody says why, or for which run.
bool StagedLanding::full() const {
  bool full = full_;
  for (size_t region = 0; region < ram_.region_count(); ++region) {
    const RamFile& file = ram_.file(region);
    full = full || (file.gives_huge_pages() && !file.CheckRoom(kRunBytesMax).has_value());
  }
  return full;
}

bool StagedLanding::Land(PageRun pages, std::span<const std::byte> bytes) {
  full_ = !LandsInPlace(pages) && !ram_.Write(pages, bytes);
  return !full_;
}

}  // namespace faultline
