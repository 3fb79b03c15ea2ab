// Log-linear histogram of TSC cycles: sixteen buckets per power of two, so a bucket's width is at
// most 1/16 of its low end. Freestanding C.
#ifndef QEMU_INTEGRATION_GUESTS_COMMON_HISTOGRAM_H_
#define QEMU_INTEGRATION_GUESTS_COMMON_HISTOGRAM_H_

#include <stdint.h>

enum { kSubBucketBits = 4, kSubBuckets = 1 << kSubBucketBits, kBuckets = 44 * kSubBuckets };

struct Histogram {
  uint64_t count, sum_cycles, max_cycles;
  uint32_t buckets[kBuckets];
};

static inline unsigned BucketOf(uint64_t cycles) {
  if (cycles < kSubBuckets) return (unsigned)cycles;
  const unsigned top = 63u - (unsigned)__builtin_clzll(cycles);
  const unsigned shift = top - kSubBucketBits;
  const unsigned bucket = (shift << kSubBucketBits) + (unsigned)(cycles >> shift);
  return bucket < kBuckets ? bucket : kBuckets - 1;
}

// The smallest number of cycles that falls into the bucket.
static inline uint64_t BucketLow(unsigned bucket) {
  if (bucket < 2 * kSubBuckets) return bucket;
  const unsigned shift = (bucket >> kSubBucketBits) - 1;
  return (uint64_t)(kSubBuckets + (bucket & (kSubBuckets - 1))) << shift;
}

static inline void AddSample(struct Histogram* histogram, uint64_t cycles) {
  ++histogram->count;
  histogram->sum_cycles += cycles;
  if (cycles > histogram->max_cycles) histogram->max_cycles = cycles;
  ++histogram->buckets[BucketOf(cycles)];
}

#endif  // QEMU_INTEGRATION_GUESTS_COMMON_HISTOGRAM_H_
