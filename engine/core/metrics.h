// Counters and histograms of one thread, readable from another without stopping it.
//
// Each counter has one writer and relaxed loads elsewhere: a number shown while the engine runs
// may be a moment old, the numbers after the threads have ended are exact.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/core/units.h"

namespace faultline {

/// One writer.
class Counter {
 public:
  void Add(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// Log-linear: 16 buckets per power of two (6 % wide), from 1 ns to over an hour. One writer.
class LatencyHistogram {
 public:
  void Record(Nanos latency);
  void MergeFrom(const LatencyHistogram& other);

  [[nodiscard]] uint64_t count() const;
  [[nodiscard]] Nanos max() const;
  [[nodiscard]] Nanos sum() const;
  /// The upper edge of the bucket that holds the quantile; zero if nothing was recorded.
  /// REQUIRES: 0 <= quantile <= 1.
  [[nodiscard]] Nanos Quantile(double quantile) const;

 private:
  static constexpr size_t kSubBuckets = 16;
  static constexpr size_t kBuckets = 40 * kSubBuckets;
  static size_t BucketOf(uint64_t ns);
  static uint64_t UpperEdge(size_t bucket);

  std::array<Counter, kBuckets> buckets_;
  Counter sum_ns_;
  std::atomic<uint64_t> max_ns_{0};
};

/// How faults ended: one counter per exit, so that they sum to `count`.
struct FaultCounters {
  Counter count;         ///< faults read (each page once per batch)
  Counter from_urgent;   ///< fetched on the urgent lane
  Counter overtook;      ///< likewise, though the pusher had asked already
  Counter joined_bulk;   ///< somebody had asked, and could not be overtaken; woken on its arrival
  Counter already_held;  ///< complete in the alias: mapped at once
  Counter zero;          ///< a hole, or given up by the guest: a zero page
  Counter again;         ///< mapped before: swapped out, collapsed, punched, or a stale event
};

struct FaultMetrics {
  FaultCounters faults;
  LatencyHistogram total;  ///< event read → page mapped and waiter awake
  // Its stages. What lies before (the guest's thread goes to sleep, the fault thread wakes up)
  // nobody can stamp; fetch is source and network together.
  LatencyHistogram read;     ///< the reactor reports the event → read
  LatencyHistogram request;  ///< event read → posted on the urgent lane
  LatencyHistogram fetch;    ///< posted → bytes in the alias
  LatencyHistogram source;   ///< request read → reply about to be sent, by the source's clock
  LatencyHistogram network;  ///< the rest of fetch: both ways, and being woken at both ends
  LatencyHistogram place;    ///< bytes in the alias → mapped and awake (CONTINUE does both)
  Counter removed_pages;

  void MergeFrom(const FaultMetrics& other);
};

struct LandingMetrics {
  Counter data_pages;
  Counter data_bytes;
  Counter zero_pages;
  Counter discarded_pages;  ///< arrived for a page that the guest had given up
  Counter place_retries;
};

}  // namespace faultline
