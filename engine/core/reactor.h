// What one thread waits on: its fault source, its lane, its mailbox. One per thread, for the
// thread's life; lanes come and go on it. Implemented by engine/tcp (io_uring, or epoll where a
// site has disabled io_uring) and by the simulation.
#pragma once

#include <cstdint>

#include "engine/core/units.h"

namespace faultline {

/// A bit in a ReadySet, 0 to 63.
enum class ReadyToken : uint8_t {
  kMailbox = 0,  ///< another thread has a message (stop, a new lane)
  kFaults = 1,   ///< the fault source is readable
  kLane = 2,     ///< the lane may have arrivals, or is broken
  kReads = 3,    ///< a lane of READs: completions (for its own reactor, never reported further)
  kLink = 4,     ///< a lane of READs: its connection has an event (as kReads)
};

class ReadySet {
 public:
  constexpr void Add(ReadyToken token) { bits_ |= Bit(token); }
  [[nodiscard]] constexpr bool Has(ReadyToken token) const { return (bits_ & Bit(token)) != 0; }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }

 private:
  static constexpr uint64_t Bit(ReadyToken token) {
    return uint64_t{1} << static_cast<uint8_t>(token);
  }
  uint64_t bits_ = 0;
};

/// Used by one thread.
class Reactor {
 public:
  virtual ~Reactor() = default;
  /// Reports `token` whenever `fd` is readable, until Unwatch. `fd` stays the caller's.
  virtual void Watch(int fd, ReadyToken token) = 0;
  virtual void Unwatch(ReadyToken token) = 0;
  /// Submits what is queued, then waits until something is ready or `timeout` has passed
  /// (zero: only look). May report a token that turns out to have nothing.
  virtual ReadySet Wait(Nanos timeout) = 0;
};

}  // namespace faultline
