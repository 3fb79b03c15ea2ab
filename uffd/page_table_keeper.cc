#include "uffd/page_table_keeper.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

namespace faultline {
namespace {

using Clock = std::chrono::steady_clock;

/// An entry of 8 bytes for each 4 KiB.
constexpr uint64_t kMappedByTableByte = 512;
/// VmPTE is asked for once in so many pieces.
constexpr int kPiecesPerLook = 16;
/// A piece that took less had nothing in it.
constexpr Nanos kNothingThere = std::chrono::microseconds(20);
constexpr Nanos kPiecePause = std::chrono::microseconds(200);

}  // namespace

ByteCount PageTableBytes() {
  std::ifstream status("/proc/self/status");
  uint64_t kib = 0;
  for (std::string line; std::getline(status, line);) {
    if (std::sscanf(line.c_str(), "VmPTE: %lu kB", &kib) == 1) break;
  }
  return ByteCount(kib << 10);
}

PageTableKeeper::PageTableKeeper(const GuestRam& ram, Limits limits) : ram_(ram), limits_(limits) {
  if (!MayFill()) return;
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "fl-page-tables");
}

PageTableKeeper::~PageTableKeeper() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

/// Twice its size, for what else the process comes to map.
bool PageTableKeeper::MayFill() const {
  const ByteCount most(ram_.geometry().byte_count().value() / kMappedByTableByte);
  return PageTableBytes() + most + most > limits_.begin_at;
}

void PageTableKeeper::Run() {
  while (Pause(limits_.look_every)) {
    if (PageTableBytes() > limits_.begin_at) DropUntilEnough();
  }
}

/// Once round at most.
void PageTableKeeper::DropUntilEnough() {
  const PageIndex end = PageIndex(0) + ram_.geometry().page_count();
  int dropped = 0;
  for (uint64_t seen = 0; seen < end.value();) {
    const PageRun piece = PieceAt(next_);
    seen += piece.count.value();
    next_ = piece.end() < end ? piece.end() : PageIndex(0);
    const Clock::time_point start = Clock::now();
    if (!ram_.DropPageTables(piece)) return;
    if (++dropped % kPiecesPerLook == 0 && PageTableBytes() <= limits_.end_at) return;
    if (Clock::now() - start > kNothingThere && !Pause(kPiecePause)) return;
  }
}

/// To the next multiple of a piece in our address space: only whole tables can be given back.
PageRun PageTableKeeper::PieceAt(PageIndex page) const {
  const Geometry& geometry = ram_.geometry();
  const auto at = reinterpret_cast<uintptr_t>(ram_.window().BytesOf({page, PageCount(1)}).data());
  const uint64_t bytes = kPieceBytes.value() - at % kPieceBytes.value();
  const uint64_t pages = std::max<uint64_t>(1, bytes / geometry.PageSizeOf(page).bytes());
  const PageIndex end = geometry.pages_of(geometry.RegionOf(page)).end();
  return {page, std::min(PageCount(pages), end - page)};
}

/// Sleeps; false when the keeper is to stop.
bool PageTableKeeper::Pause(Nanos duration) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, duration, [this] { return stopping_; });
}

}  // namespace faultline
