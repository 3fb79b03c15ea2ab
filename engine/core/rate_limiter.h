// A token bucket: how many bytes may be asked for now.
#pragma once

#include <cstdint>

#include "engine/core/units.h"

namespace faultline {

/// Used by one thread.
class RateLimiter {
 public:
  /// `bytes_per_second` 0: no limit. `burst`: at least the largest single request.
  RateLimiter(uint64_t bytes_per_second, ByteCount burst);

  /// Takes `bytes` if they may go now. A request larger than the burst goes when the bucket is
  /// full, and is paid for afterwards.
  bool TryTake(ByteCount bytes, Nanos now);
  /// When TryTake is worth another try; zero: now.
  [[nodiscard]] Nanos WaitFor(ByteCount bytes, Nanos now) const;

 private:
  void Refill(Nanos now);

  uint64_t bytes_per_second_;
  int64_t burst_bytes_;
  int64_t tokens_bytes_;  ///< below zero after a request larger than the burst
  int64_t fraction_ = 0;  ///< earned beyond tokens_bytes_, in 10^-9 bytes
  Nanos refilled_at_{0};
};

}  // namespace faultline
