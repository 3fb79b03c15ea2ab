#include "uffd/uffd_copy_placer.h"

#include <sys/mman.h>

#include "engine/core/check.h"

namespace faultline {

namespace {

std::vector<HostAddr> BasesOf(const std::vector<AliasMapping>& memory) {
  std::vector<HostAddr> bases;
  for (const AliasMapping& mapping : memory) bases.push_back(mapping.base());
  return bases;
}

PageRun Behind(PageRun run, uint64_t pages) {
  return {run.first + PageCount(pages), run.count - PageCount(pages)};
}

}  // namespace

UffdCopyPlacer::UffdCopyPlacer(const UserfaultFd& uffd, const VmmMap& vmm,
                               std::vector<AliasMapping> memory)
    : uffd_(&uffd),
      vmm_(&vmm),
      memory_(std::move(memory)),
      staging_(vmm.geometry(), BasesOf(memory_)) {}

Result<UffdCopyPlacer> UffdCopyPlacer::Create(const UserfaultFd& uffd, const VmmMap& vmm) {
  std::vector<AliasMapping> memory;
  for (size_t region = 0; region < vmm.geometry().region_count(); ++region) {
    FAULTLINE_ASSIGN(AliasMapping mapping,
                     AliasMapping::Anonymous(vmm.geometry().shape(region).length));
    memory.push_back(std::move(mapping));
  }
  return UffdCopyPlacer(uffd, vmm, std::move(memory));
}

PlaceResult UffdCopyPlacer::MapHeld(PageRun run) {
  const PlaceResult result = Map(run, Way::kCopy);
  // kRetry will copy once more; in every other case the bytes have served.
  if (result != PlaceResult::kRetry) Empty(run);
  return result;
}

PlaceResult UffdCopyPlacer::MapZero(PageRun run) { return Map(run, Way::kZero); }

void UffdCopyPlacer::Empty(PageRun run) {
  const std::span<std::byte> bytes = staging_.BytesOf(run);
  FAULTLINE_CHECK(::madvise(bytes.data(), bytes.size(), MADV_DONTNEED) == 0);
}

void UffdCopyPlacer::Wake(PageRun run) {
  uffd_->Wake(vmm_->AddrOf(run.first), vmm_->geometry().BytesOf(run));
}

/// The whole run in one call as long as that works; steps over what is there already.
PlaceResult UffdCopyPlacer::Map(PageRun run, Way way) {
  const uint64_t page_bytes = vmm_->geometry().PageSizeOf(run.first).bytes();
  PlaceResult result = PlaceResult::kPlaced;
  while (!run.empty()) {
    UffdProgress progress = Try(run, way);
    // ENOENT is also the border between two mappings, which one page cannot cross.
    if (progress.outcome == UffdOutcome::kNotRegistered) {
      progress = Try({run.first, PageCount(1)}, way);
      if (progress.outcome == UffdOutcome::kDone) progress.outcome = UffdOutcome::kPartial;
    }
    if (progress.outcome == UffdOutcome::kDone) return result;
    run = Behind(run, progress.done.value() / page_bytes);
    if (progress.outcome == UffdOutcome::kPartial) continue;
    if (progress.outcome == UffdOutcome::kProcessGone) return PlaceResult::kGone;
    const bool there = progress.outcome == UffdOutcome::kAlreadyMapped ||
                       progress.outcome == UffdOutcome::kNotRegistered;
    if (!there) return PlaceResult::kRetry;
    Wake({run.first, PageCount(1)});
    result = PlaceResult::kAlreadyPresent;
    run = Behind(run, 1);
  }
  return result;
}

UffdProgress UffdCopyPlacer::Try(PageRun run, Way way) const {
  const VmmAddr start = vmm_->AddrOf(run.first);
  const ByteCount length = vmm_->geometry().BytesOf(run);
  const bool small_pages = vmm_->geometry().PageSizeOf(run.first) == kSmallPageSize;
  if (way == Way::kZero && small_pages) return uffd_->ZeroPage(start, length);
  // hugetlbfs knows no ZEROPAGE; where nothing has landed, staging reads as zero.
  return uffd_->Copy(start, staging_.AddrOf(run.first), length);
}

}  // namespace faultline
