#include "engine/core/metrics.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/core/check.h"

namespace faultline {

size_t LatencyHistogram::BucketOf(uint64_t ns) {
  if (ns < kSubBuckets) return static_cast<size_t>(ns);
  const auto shift = static_cast<size_t>(std::bit_width(ns)) - 5;  // leaves 5 bits: 16 … 31
  const size_t bucket = shift * kSubBuckets + static_cast<size_t>(ns >> shift);
  return std::min(bucket, kBuckets - 1);
}

uint64_t LatencyHistogram::UpperEdge(size_t bucket) {
  if (bucket < kSubBuckets) return bucket;
  const size_t shift = bucket / kSubBuckets - 1;
  const uint64_t mantissa = kSubBuckets + bucket % kSubBuckets;
  return ((mantissa + 1) << shift) - 1;
}

void LatencyHistogram::Record(Nanos latency) {
  const uint64_t ns = latency.count() < 0 ? 0 : static_cast<uint64_t>(latency.count());
  buckets_[BucketOf(ns)].Add();
  sum_ns_.Add(ns);
  if (ns > max_ns_.load(std::memory_order_relaxed)) max_ns_.store(ns, std::memory_order_relaxed);
}

void LatencyHistogram::MergeFrom(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) {
    const uint64_t n = other.buckets_[i].value();
    if (n > 0) buckets_[i].Add(n);
  }
  sum_ns_.Add(other.sum_ns_.value());
  max_ns_.store(std::max(max_ns_.load(std::memory_order_relaxed),
                         other.max_ns_.load(std::memory_order_relaxed)),
                std::memory_order_relaxed);
}

uint64_t LatencyHistogram::count() const {
  uint64_t total = 0;
  for (const Counter& bucket : buckets_) total += bucket.value();
  return total;
}

Nanos LatencyHistogram::max() const {
  return Nanos(static_cast<int64_t>(max_ns_.load(std::memory_order_relaxed)));
}

Nanos LatencyHistogram::sum() const { return Nanos(static_cast<int64_t>(sum_ns_.value())); }

Nanos LatencyHistogram::Quantile(double quantile) const {
  FAULTLINE_CHECK(quantile >= 0 && quantile <= 1);
  const uint64_t total = count();
  if (total == 0) return Nanos(0);
  const double exact_rank = std::ceil(quantile * static_cast<double>(total));
  const uint64_t rank = std::max<uint64_t>(1, static_cast<uint64_t>(exact_rank));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i].value();
    if (seen >= rank) return std::min(Nanos(static_cast<int64_t>(UpperEdge(i))), max());
  }
  return max();  // a bucket grew while we walked
}

void FaultMetrics::MergeFrom(const FaultMetrics& other) {
  faults.count.Add(other.faults.count.value());
  faults.from_urgent.Add(other.faults.from_urgent.value());
  faults.overtook.Add(other.faults.overtook.value());
  faults.joined_bulk.Add(other.faults.joined_bulk.value());
  faults.already_held.Add(other.faults.already_held.value());
  faults.zero.Add(other.faults.zero.value());
  faults.again.Add(other.faults.again.value());
  total.MergeFrom(other.total);
  read.MergeFrom(other.read);
  request.MergeFrom(other.request);
  fetch.MergeFrom(other.fetch);
  source.MergeFrom(other.source);
  network.MergeFrom(other.network);
  place.MergeFrom(other.place);
  removed_pages.Add(other.removed_pages.value());
}

}  // namespace faultline
