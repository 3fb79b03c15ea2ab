// Bounded waiting on one descriptor.
#pragma once

#include <poll.h>

#include <cerrno>
#include <chrono>

#include "engine/core/units.h"

namespace faultline::tcp {

/// CLOCK_MONOTONIC.
inline Nanos MonotonicNow() { return std::chrono::steady_clock::now().time_since_epoch(); }

/// For poll(2): rounded up, so that a wait never ends before its deadline; never negative.
inline int PollTimeoutMs(Nanos deadline) {
  const Nanos left = deadline - MonotonicNow();
  if (left <= Nanos::zero()) return 0;
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  constexpr int kMsMax = 1 << 30;
  return ms > kMsMax ? kMsMax : static_cast<int>(ms);
}

enum class FdWait { kReady, kTimeout, kCancelled, kError };

/// Waits until `fd` has one of `events` (or is broken, which reads and writes will tell), until
/// `deadline`, or until `cancel_fd` (-1: none) is readable. kError: errno is set.
inline FdWait WaitForFd(int fd, short events, Nanos deadline, int cancel_fd = -1) {
  while (true) {
    pollfd fds[2] = {{fd, events, 0}, {cancel_fd, POLLIN, 0}};
    const int ready = ::poll(fds, 2, PollTimeoutMs(deadline));
    if (ready < 0 && errno != EINTR) return FdWait::kError;
    if (ready > 0 && fds[1].revents != 0) return FdWait::kCancelled;
    if (ready > 0) return FdWait::kReady;
    if (MonotonicNow() >= deadline) return FdWait::kTimeout;
  }
}

}  // namespace faultline::tcp
