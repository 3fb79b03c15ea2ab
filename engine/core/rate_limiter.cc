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
  const auto earned = static_cast<int64_t>(
      std::min<Wide>(Wide{bytes_per_second_} * std::max<int64_t>(0, (now - refilled_at_).count()) /
                         kNanosPerSecond,
                     Wide{burst_bytes_ - tokens_bytes_}));
  if (earned <= 0) {
    // A full bucket earns nothing. A fraction of a byte is not lost: its time stays uncounted.
    if (tokens_bytes_ >= burst_bytes_) refilled_at_ = now;
    return;
  }
  tokens_bytes_ += earned;
  const Wide paid_for = Wide{earned} * kNanosPerSecond / static_cast<Wide>(bytes_per_second_);
  refilled_at_ = tokens_bytes_ == burst_bytes_ ? now : refilled_at_ + Nanos(int64_t(paid_for));
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
  const Wide due_ns = (Wide{lacking} * kNanosPerSecond + rate - 1) / rate;
  return std::max(Nanos(1), then.refilled_at_ + Nanos(static_cast<int64_t>(due_ns)) - now);
}

}  // namespace faultline
