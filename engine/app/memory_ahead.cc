#include "engine/app/memory_ahead.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace faultline {

void MemoryAhead::Start(std::vector<PageRun> runs) {
  if (runs.empty()) return;
  thread_ = std::thread([this, runs = std::move(runs)] { Run(runs); });
  pthread_setname_np(thread_.native_handle(), "fl-memory");
}

void MemoryAhead::Stop() {
  stopping_.store(true, std::memory_order_relaxed);
  if (thread_.joinable()) thread_.join();
}

void MemoryAhead::Run(const std::vector<PageRun>& runs) {
  for (const PageRun& run : runs) {
    if (!Populate(run)) return;
  }
}

void MemoryAhead::Rest() {
  for (Nanos left = pause_.Left(clock_.Now()); left > Nanos(0); left = pause_.Left(clock_.Now())) {
    if (stopping_.load(std::memory_order_relaxed)) return;
    std::this_thread::sleep_for(std::min(left, kNapMax));
  }
}

/// False: it is over.
bool MemoryAhead::Populate(PageRun run) {
  while (!run.empty()) {
    Rest();
    if (stopping_.load(std::memory_order_relaxed)) return false;
    const PageRun piece{run.first, std::min(run.count, kPiece)};
    if (const Status done = ram_.PopulateWrite(piece); !done.has_value()) {
      spdlog::warn("{}; pages get their memory as they land", done.error().message);
      return false;
    }
    run = {piece.end(), run.count - piece.count};
  }
  return true;
}

}  // namespace faultline
