#include "engine/app/final_maps.h"

#include <pthread.h>

#include <optional>

namespace faultline {

FinalMaps::FinalMaps(DestinationPages& pages) : pages_(pages), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "fl-maps");
}

bool FinalMaps::Add(Part part) {
  const std::lock_guard lock(mutex_);
  PageIndex& next = next_[static_cast<size_t>(part.kind)];
  if (part.runs.empty()) return true;
  if (part.runs.front().first < next) return false;
  next = part.runs.back().end();
  queue_.push_back(std::move(part));
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
  const auto has_work = [this] { return stopping_ || !queue_.empty(); };
  bool retries = false;  // until the fault thread has read a REMOVE event
  std::unique_lock lock(mutex_);
  while (true) {
    if (retries) {
      changed_.wait_for(lock, kRetryPause, has_work);
    } else {
      changed_.wait(lock, has_work);
    }
    if (stopping_) return;
    std::optional<Part> part;
    if (!queue_.empty()) {
      part = std::move(queue_.front());
      queue_.pop_front();
    }
    lock.unlock();
    if (part) Apply(*part);
    retries = pages_.RetryMaps();
    lock.lock();
  }
}

void FinalMaps::Apply(const Part& part) {
  for (const PageRun& run : part.runs) {
    switch (part.kind) {
      case Kind::kHoles: pages_.SweepHoles(run); break;
      case Kind::kUnchanged: pages_.KeepEarly(run); break;
    }
  }
}

}  // namespace faultline
