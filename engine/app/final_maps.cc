#include "engine/app/final_maps.h"

#include <pthread.h>

namespace faultline {

FinalMaps::FinalMaps(DestinationPages& pages) : pages_(pages), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "fl-maps");
}

void FinalMaps::Add(Part part) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(part));
  changed_.notify_all();
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
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const Part part = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    Apply(part);
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
