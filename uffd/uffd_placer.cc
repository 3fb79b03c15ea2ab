#include "uffd/uffd_placer.h"

namespace faultline {

namespace {

void Count(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

PageRun First(PageRun run) { return {run.first, PageCount(1)}; }

/// What is left of `run` behind its first `pages`.
PageRun Behind(PageRun run, uint64_t pages) {
  return {run.first + PageCount(pages), run.count - PageCount(pages)};
}

}  // namespace

PlaceResult UffdPlacer::MapHeld(PageRun run) { return Map(run, Way::kContinue); }
PlaceResult UffdPlacer::MapZero(PageRun run) { return Map(run, Way::kZero); }
// MINOR or MISSING does not matter: what the page cache has is right, and where it has nothing,
// CONTINUE says so and a zero page is right.
PlaceResult UffdPlacer::MapAgain(PageRun run) { return Map(run, Way::kContinue); }

void UffdPlacer::Empty(PageRun run) {
  ram_.file(vmm_.geometry().RegionOf(run.first)).Empty(ram_.ExtentOf(run));
}

void UffdPlacer::Wake(PageRun run) {
  uffd_.Wake(vmm_.AddrOf(run.first), vmm_.geometry().BytesOf(run));
}

void UffdPlacer::Retire(PageRun run) {
  uffd_.TryUnregister(vmm_.AddrOf(run.first), vmm_.geometry().BytesOf(run));
}

/// The whole run in one call as long as that works, page by page around what stands in the way.
PlaceResult UffdPlacer::Map(PageRun run, Way way) {
  const uint64_t page_bytes = vmm_.geometry().PageSizeOf(run.first).bytes();
  PlaceResult result = PlaceResult::kPlaced;
  while (!run.empty()) {
    const UffdProgress progress = Try(run, way);
    if (progress.outcome == UffdOutcome::kDone) return result;
    run = Behind(run, progress.done.value() / page_bytes);
    if (progress.outcome == UffdOutcome::kPartial) continue;
    const bool is_last = run.count == PageCount(1);
    const UffdOutcome outcome = is_last ? progress.outcome : Try(First(run), way).outcome;
    const PlaceResult page_result = MapOnePage(run.first, way, outcome);
    if (page_result == PlaceResult::kRetry || page_result == PlaceResult::kGone) return page_result;
    if (page_result == PlaceResult::kAlreadyPresent) result = page_result;
    run = Behind(run, 1);
  }
  return result;
}

/// `outcome`: of the first attempt. CONTINUE finds what is in the page cache, ZEROPAGE makes what
/// is not, so one of them succeeds unless the guest keeps changing the page meanwhile.
PlaceResult UffdPlacer::MapOnePage(PageIndex page, Way way, UffdOutcome outcome) {
  constexpr int kAttemptsMax = 4;
  const PageRun run{page, PageCount(1)};
  for (int attempt = 1; attempt <= kAttemptsMax; ++attempt) {
    switch (outcome) {
      case UffdOutcome::kDone:
        return PlaceResult::kPlaced;
      case UffdOutcome::kAlreadyMapped:
        if (way == Way::kContinue) return CannotMap(page, outcome);
        way = Way::kContinue;
        break;
      case UffdOutcome::kNothingThere:
        Count(counters_.punched);
        way = Way::kZero;
        break;
      case UffdOutcome::kPartial:
      case UffdOutcome::kInterrupted:
        break;
      default:
        return CannotMap(page, outcome);
    }
    if (attempt < kAttemptsMax) outcome = Try(run, way).outcome;
  }
  return PlaceResult::kRetry;
}

UffdProgress UffdPlacer::Try(PageRun run, Way way) const {
  const VmmAddr start = vmm_.AddrOf(run.first);
  if (way == Way::kContinue) return uffd_.Continue(start, vmm_.geometry().BytesOf(run));
  const size_t region = vmm_.geometry().RegionOf(run.first);
  if (ram_.file(region).file_system() == RamFileSystem::kHugetlbfs) return ZeroFirstHugePage(run);
  return uffd_.ZeroPage(start, vmm_.geometry().BytesOf(run));
}

/// hugetlbfs knows no ZEROPAGE (EINVAL): memory is put into the file, zeroed, and mapped.
UffdProgress UffdPlacer::ZeroFirstHugePage(PageRun run) const {
  const ByteExtent extent = ram_.ExtentOf({run.first, PageCount(1)});
  if (!ram_.file(vmm_.geometry().RegionOf(run.first)).Allocate(extent)) {
    return {UffdOutcome::kNoMemory, ByteCount(0)};
  }
  const UffdProgress progress = uffd_.Continue(vmm_.AddrOf(run.first), extent.length);
  const bool more = run.count > PageCount(1);
  if (progress.outcome != UffdOutcome::kDone || !more) return progress;
  return {UffdOutcome::kPartial, extent.length};
}

PlaceResult UffdPlacer::CannotMap(PageIndex page, UffdOutcome outcome) {
  switch (outcome) {
    case UffdOutcome::kAlreadyMapped:
      Count(counters_.already_mapped);
      Wake({page, PageCount(1)});
      return PlaceResult::kAlreadyPresent;
    case UffdOutcome::kNotRegistered:
      Count(counters_.not_registered);
      Wake({page, PageCount(1)});
      return PlaceResult::kAlreadyPresent;
    case UffdOutcome::kProcessGone:
      return PlaceResult::kGone;
    case UffdOutcome::kNoMemory:
      Count(counters_.no_memory);
      return PlaceResult::kRetry;
    case UffdOutcome::kPoisoned:
      Count(counters_.poisoned);
      return PlaceResult::kRetry;
    default:
      Count(counters_.events_unread);
      return PlaceResult::kRetry;
  }
}

}  // namespace faultline
