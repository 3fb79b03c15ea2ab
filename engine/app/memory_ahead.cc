#include "engine/app/memory_ahead.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "engine/tcp/keep_off.h"

namespace faultline {

void MemoryAhead::Start(std::vector<PageRun> runs) {
  if (runs.empty()) return;
  runs_ = std::move(runs);
  // Half of the processors, for other guests run here; but two threads, for the switch waits.
  const unsigned count =
      std::clamp(std::thread::hardware_concurrency() / 2, kThreadsMin, kThreadsMax);
  at_work_.store(count, std::memory_order_relaxed);
  for (unsigned i = 0; i < count; ++i) {
    threads_.emplace_back([this] { Run(); });
    pthread_setname_np(threads_.back().native_handle(), "fl-memory");
  }
}

void MemoryAhead::Stop() {
  stopping_.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

Status MemoryAhead::AwaitHeadStart(const std::function<Status()>& on_slice) const {
  const Nanos end = clock_.Now() + kHeadStartMax;
  while (at_work_.load(std::memory_order_acquire) > 0 && clock_.Now() < end) {
    FAULTLINE_TRY(on_slice());
    std::this_thread::sleep_for(kSlice);
  }
  return {};
}

void MemoryAhead::Run() {
  KeepOff keep_off(cores_);
  for (PageRun piece = NextPiece(); !piece.empty(); piece = NextPiece()) {
    Rest();
    keep_off.Look();
    if (stopping_.load(std::memory_order_relaxed) || !Populate(piece)) break;
  }
  at_work_.fetch_sub(1, std::memory_order_release);
}

/// Empty: nothing is left.
PageRun MemoryAhead::NextPiece() {
  const std::lock_guard lock(mutex_);
  if (next_ == runs_.size()) return {};
  PageRun& rest = runs_[next_];
  const PageRun piece{rest.first, std::min(rest.count, kPiece)};
  rest = {piece.end(), rest.count - piece.count};
  if (rest.empty()) ++next_;
  return piece;
}

void MemoryAhead::Rest() {
  for (Nanos left = pause_.Left(clock_.Now()); left > Nanos(0); left = pause_.Left(clock_.Now())) {
    if (stopping_.load(std::memory_order_relaxed)) return;
    std::this_thread::sleep_for(std::min(left, kNapMax));
  }
}

bool MemoryAhead::Populate(PageRun piece) {
  const Status done = ram_.PopulateWrite(piece);
  if (!done.has_value()) {
    spdlog::warn("{}; pages get their memory as they land", done.error().message);
  }
  return done.has_value();
}

}  // namespace faultline
