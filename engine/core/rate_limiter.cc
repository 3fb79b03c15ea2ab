#include "engine/core/rate_limiter.h"

#include <algorithm>

namespace faultline {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
__extension__ using Wide = __int128;  // bytes × nanoseconds do not fit 64 bits

}  // namespace

RateLimiter::RateLimiter(uint64_t bytes_per_second, ByteCount burst)
    : bytes_per_second_(bytes_per_second),
      burst_bytes_(static_cast<int64_t>(burst.value())),
      tokens_bytes_(burst_bytes_) {}

void RateLimiter::Refill(Nanos now) {
  const Wide elapsed_ns = std::max<int64_t>(0, (now - refilled_at_).count());
  const Wide earned = Wide{bytes_per_second_} * elapsed_ns + fraction_;  // in bytes / 10^9
  refilled_at_ = std::max(refilled_at_, now);
  if (earned / kNanosPerSecond >= burst_bytes_ - tokens_bytes_) {
    tokens_bytes_ = burst_bytes_;
    fraction_ = 0;
    return;
  }
  tokens_bytes_ += static_cast<int64_t>(earned / kNanosPerSecond);
  fraction_ = static_cast<int64_t>(earned % kNanosPerSecond);
}

bool RateLimiter::TryTake(ByteCount bytes, Nanos now) {
  if (bytes_per_second_ == 0) return true;
  Refill(now);
  const auto wanted = static_cast<int64_t>(bytes.value());
  if (tokens_bytes_ < std::min(wanted, burst_bytes_)) return false;
  tokens_bytes_ -= wanted;  // below zero for a request larger than the burst
  return true;
}

Nanos RateLimiter::WaitFor(ByteCount bytes, Nanos now) const {
  if (bytes_per_second_ == 0) return Nanos(0);
  RateLimiter then = *this;
  then.Refill(now);
  const int64_t lacking =
      std::min(static_cast<int64_t>(bytes.value()), burst_bytes_) - then.tokens_bytes_;
  if (lacking <= 0) return Nanos(0);
  const auto rate = static_cast<Wide>(bytes_per_second_);
  const Wide due_ns = (Wide{lacking} * kNanosPerSecond - then.fraction_ + rate - 1) / rate;
  return Nanos(static_cast<int64_t>(due_ns));
}

}  // namespace faultline
