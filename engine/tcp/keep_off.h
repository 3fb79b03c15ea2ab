// Keeps a thread off the cores on which demand fetches are served (engine/core/fault_cores.h).
//
// Priority is not enough for that: whoever is woken there waits for the bulk thread's system call,
// and a guest's thread has no priority over it at all (measured: ARCHITECTURE.md, Decisions). Where
// no other core is allowed, nothing changes.
//
// Source: sched_setaffinity(2).
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>

#include "engine/core/fault_cores.h"

namespace faultline {

/// One thread: the one that keeps off. Allocates nothing.
class KeepOff {
 public:
  /// `cores` outlives it.
  explicit KeepOff(const FaultCores& cores) : cores_(cores) {}

  /// Now and then; costs a load while nothing changes, some microseconds when something has.
  void Look() {
    const uint64_t version = cores_.version();
    if (version == seen_) return;
    seen_ = version;
    Move();
  }

 private:
  void Move() {
    if (!known_ && ::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) return;
    known_ = true;
    cpu_set_t others = allowed_;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      const auto index = static_cast<size_t>(core);
      if (CPU_ISSET(index, &others) && cores_.Has(core)) CPU_CLR(index, &others);
    }
    // Never squeezed together: with many shards the rest could be few, or none.
    const bool enough = 2 * CPU_COUNT(&others) >= CPU_COUNT(&allowed_);
    (void)::sched_setaffinity(0, sizeof others, enough ? &others : &allowed_);
  }

  const FaultCores& cores_;
  uint64_t seen_ = 0;
  bool known_ = false;
  cpu_set_t allowed_{};  ///< where the thread may be, as it was before it kept off
};

}  // namespace faultline
