// Requests that wait to be sent, as the bytes that they are on the wire. Fixed storage: while a
// send is in flight the kernel reads from it, and new requests go behind.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/core/check.h"
#include "engine/core/wire.h"

namespace faultline {

/// One thread. Allocates nothing.
class RequestQueue {
 public:
  static constexpr size_t kRequestsMax = 256;

  [[nodiscard]] size_t Room() const {
    return (kBytesMax - (pushed_bytes_ - sent_bytes_)) / sizeof(wire::PageRequest);
  }
  /// REQUIRES: Room() > 0.
  void Push(const wire::PageRequest& request) {
    FAULTLINE_CHECK(Room() > 0);
    requests_[pushed_bytes_ / sizeof request % kRequestsMax] = request;
    pushed_bytes_ += sizeof request;
  }
  /// What to send next, up to where the storage wraps; empty if nothing waits.
  [[nodiscard]] std::span<const std::byte> Unsent() const {
    const size_t start = sent_bytes_ % kBytesMax;
    const size_t bytes = std::min<size_t>(pushed_bytes_ - sent_bytes_, kBytesMax - start);
    return std::as_bytes(std::span(requests_)).subspan(start, bytes);
  }
  /// The first `bytes` of Unsent() have left.
  void OnSent(size_t bytes) { sent_bytes_ += bytes; }

 private:
  static constexpr size_t kBytesMax = kRequestsMax * sizeof(wire::PageRequest);

  std::array<wire::PageRequest, kRequestsMax> requests_{};
  uint64_t pushed_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
};

}  // namespace faultline
