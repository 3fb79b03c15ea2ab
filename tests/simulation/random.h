// The one source of chance in a simulated migration: the same seed gives the same run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultline::simulation {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// 0 … bound-1. REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound) { return (Next() >> 32) * bound >> 32; }
  uint64_t Between(uint64_t low, uint64_t high) { return low + Below(high - low + 1); }
  /// True once in `n` times on average; never for 0.
  bool OneIn(uint64_t n) { return n != 0 && Below(n) == 0; }
  bool Percent(uint64_t percent) { return Below(100) < percent; }

 private:
  uint64_t state_;
};

}  // namespace faultline::simulation
