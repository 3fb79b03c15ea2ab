#include "engine/app/final_maps.h"

#include <pthread.h>

#include <algorithm>

namespace faultline {

FinalMaps::FinalMaps(DestinationPages& pages)
    : pages_(pages), keep_off_(pages.fault_cores()), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "fl-maps");
}

bool FinalMaps::Add(Kind kind, Runs runs) {
  const std::lock_guard lock(mutex_);
  Queue& queue = QueueOf(kind);
  if (runs.empty()) return true;
  if (runs.front().first < queue.next) return false;
  queue.next = runs.back().end();
  queue.parts.push_back(std::move(runs));
  changed_.notify_all();
  return true;
}

void FinalMaps::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void FinalMaps::Run() {
  bool retries = false;  // until the fault thread has read a REMOVE event
  std::unique_lock lock(mutex_);
  while (true) {
    // No predicate: what is added may shorten the wait, not only end it.
    if (!stopping_ && !HasDue()) changed_.wait_for(lock, WaitLimit(retries));
    if (stopping_) return;
    const std::optional<Part> part = TakeDue();
    lock.unlock();
    if (part) Apply(*part);
    retries = pages_.RetryMaps();
    lock.lock();
  }
}

bool FinalMaps::IsDue(Kind kind) {
  const bool may_wait = kind == Kind::kHoles;
  return !QueueOf(kind).parts.empty() && (!may_wait || pages_.PauseLeft() == Nanos(0));
}

Nanos FinalMaps::WaitLimit(bool retries) {
  const Nanos limit = retries ? kRetryPause : kIdle;
  return QueueOf(Kind::kHoles).parts.empty() ? limit : std::min(limit, pages_.PauseLeft());
}

std::optional<FinalMaps::Part> FinalMaps::TakeDue() {
  for (const Kind kind : {Kind::kUnchanged, Kind::kHoles}) {
    if (!IsDue(kind)) continue;
    Part part{kind, std::move(QueueOf(kind).parts.front())};
    QueueOf(kind).parts.pop_front();
    return part;
  }
  return std::nullopt;
}

void FinalMaps::Apply(const Part& part) {
  for (const PageRun& run : part.runs) {
    keep_off_.Look();
    switch (part.kind) {
      case Kind::kUnchanged:
        pages_.KeepEarly(run);
        std::this_thread::yield();  // the VMM loads its devices meanwhile: it comes first
        break;
      case Kind::kHoles: pages_.SweepHoles(run); break;
    }
  }
}

}  // namespace faultline
