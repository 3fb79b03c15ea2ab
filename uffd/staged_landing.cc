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
  last_ = run;
  if (LandsInPlace(run)) return ram_.window().BytesOf(run);
  return {reinterpret_cast<std::byte*>(staging_.base().value()),
          ram_.geometry().BytesOf(run).value()};
}

// In place it is the receive that fails (EFAULT), and nobody says why.
bool StagedLanding::full() const {
  const ByteCount needed = ram_.geometry().BytesOf(last_);
  return full_ || (LandsInPlace(last_) && !ram_.FileOf(last_).CheckRoom(needed).has_value());
}

bool StagedLanding::Land(PageRun pages, std::span<const std::byte> bytes) {
  full_ = !LandsInPlace(pages) && !ram_.Write(pages, bytes);
  return !full_;
}

}  // namespace faultline
