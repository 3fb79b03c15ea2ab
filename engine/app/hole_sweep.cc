#include "engine/app/hole_sweep.h"

namespace faultline {

HoleSweep::HoleSweep(DestinationPages& pages) : pages_(pages), thread_([this] { Run(); }) {}

void HoleSweep::Add(std::vector<PageRun> runs) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(runs));
  changed_.notify_all();
}

void HoleSweep::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void HoleSweep::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const std::vector<PageRun> runs = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    for (const PageRun& run : runs) pages_.SweepHoles(run);
    lock.lock();
  }
}

}  // namespace faultline
