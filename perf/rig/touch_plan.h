// Which pages a native guest touches, and what every page holds.
#pragma once

#include <cstdint>

#include "engine/core/check.h"
#include "engine/core/units.h"

namespace faultline::rig {

inline constexpr uint64_t kPageBytes = 4096;
/// A larger guest has several regions of this size, and its source the same bytes in each.
inline constexpr uint64_t kRegionBytesMax = uint64_t{1} << 30;

/// What a page of a region begins with. Never zero.
constexpr uint64_t WordOf(uint64_t page_in_region) {
  return (page_in_region + 1) * 0x9E3779B97F4A7C15u;
}

/// A shuffle of 0 … count-1 without a table: each number once, no stride to be guessed.
class Shuffle {
 public:
  /// REQUIRES: count is a power of two.
  Shuffle(uint64_t count, uint64_t seed) : mask_(count - 1), seed_(seed | 1) {
    FAULTLINE_CHECK(count > 1 && (count & mask_) == 0);
    while ((uint64_t{1} << bits_) < count) ++bits_;
  }
  [[nodiscard]] uint64_t operator[](uint64_t index) const {
    uint64_t x = (index * seed_ + (seed_ >> 7)) & mask_;
    for (int round = 0; round < 3; ++round) {
      x ^= x >> (bits_ / 2 + 1);
      x = (x * 0xD6E8FEB86659FD93u) & mask_;
    }
    return x ^ (x >> (bits_ / 2 + 1));
  }

 private:
  uint64_t mask_;
  uint64_t seed_;
  unsigned bits_ = 0;
};

}  // namespace faultline::rig
