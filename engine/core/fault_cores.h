// The cores on which demand fetches are served just now, one slot for each thread that serves them:
// where it is, or where its packets are processed. Whoever moves pages that nobody waits for keeps
// off (engine/tcp/keep_off.h): what runs on such a core, a guest's thread waits for. The other way
// round, those say when they are at work, so that nobody burns a processor that they need
// (engine/tcp/request_wait.h).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/core/shard_map.h"
#include "engine/core/units.h"

namespace faultline {

/// Threads: Set by a slot's own thread (or its owner, once that has ended), all else by any.
class FaultCores {
 public:
  static constexpr int kAnywhere = -1;
  /// So long after the last of it, bulk is not at work any more.
  static constexpr Nanos kBulkPause = std::chrono::milliseconds(2);

  FaultCores() {
    for (std::atomic<int>& core : cores_) core.store(kAnywhere, std::memory_order_relaxed);
  }

  /// REQUIRES: slot < kShardsMax.
  void Set(size_t slot, int core) {
    cores_[slot].store(core, std::memory_order_relaxed);
    version_.fetch_add(1, std::memory_order_release);
  }

  [[nodiscard]] bool Has(int core) const {
    for (const std::atomic<int>& taken : cores_) {
      if (taken.load(std::memory_order_relaxed) == core) return true;
    }
    return false;
  }
  /// Bulk has been moved just now, or compared.
  void NoteBulk(Nanos now) { bulk_at_.store(now.count(), std::memory_order_relaxed); }
  [[nodiscard]] bool BulkAtWork(Nanos now) const {
    return now - Nanos(bulk_at_.load(std::memory_order_relaxed)) < kBulkPause;
  }
  /// How many slots say a core.
  [[nodiscard]] int Taken() const {
    return static_cast<int>(std::ranges::count_if(cores_, [](const std::atomic<int>& core) {
      return core.load(std::memory_order_relaxed) != kAnywhere;
    }));
  }
  /// Another one than before: something may have changed. 0: nobody has said anything yet.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  std::array<std::atomic<int>, kShardsMax> cores_;
  std::atomic<uint64_t> version_{0};
  std::atomic<int64_t> bulk_at_{0};
};

}  // namespace faultline
