// Which thread of a target to stop, best first.
//
// Any stop is legal at any time, and some calls show it: a write(2) to a full pipe that a stop
// interrupts half-way returns a short count, as it would after SIGSTOP. So threads asleep in
// calls that the kernel restarts unseen come first, then threads that run, then all others; the
// main thread first among equals. What a thread does may change before it is stopped: this makes
// the visible case rare, the stop itself makes it harmless.
#pragma once

#include <vector>

#include "engine/core/result.h"

namespace faultline {

struct TargetThreads {
  std::vector<int> by_preference;
  bool filtered_by_seccomp = false;

  static Result<TargetThreads> Of(int pid);
};

}  // namespace faultline
