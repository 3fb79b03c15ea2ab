// The same thing done to many items by a few threads, while the caller looks on.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/core/result.h"

namespace faultline {

/// Calls `work(index)` for every index below `count`, on up to `threads` threads, and `look()`
/// every now and then on the caller's. The first error of either ends it, and is returned.
template <class Work, class Look>
Status ForEachInParallel(size_t count, unsigned threads, Work work, Look look) {
  constexpr auto kLookEvery = std::chrono::milliseconds(20);
  std::atomic<size_t> next{0};
  std::atomic<unsigned> running{0};
  std::mutex mutex;
  Status result;
  const auto note = [&](const Status& done) {
    if (done.has_value()) return;
    const std::lock_guard lock(mutex);
    if (result.has_value()) result = done;
    next.store(count);
  };
  const auto run = [&] {
    for (size_t index = next++; index < count; index = next++) note(work(index));
    --running;
  };
  std::vector<std::thread> workers;
  const size_t wanted = std::min<size_t>(std::max(threads, 1U), count);
  running = static_cast<unsigned>(wanted);
  for (size_t i = 0; i < wanted; ++i) workers.emplace_back(run);
  while (running > 0) {
    std::this_thread::sleep_for(kLookEvery);
    note(look());
  }
  for (std::thread& worker : workers) worker.join();
  return result;
}

}  // namespace faultline
