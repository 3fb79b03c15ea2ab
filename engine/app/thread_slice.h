// How soon a thread of ours runs when it is woken on a busy host.
//
// An urgent thread works for some microseconds and sleeps again. With the usual slice of 3 ms the
// scheduler lets whoever runs finish its own first; with the shortest one the woken thread's
// deadline is the earliest, and it is let in at once. It gets no larger share of the processor for
// it.
//
// Source: sched_setattr(2), sched_runtime for SCHED_OTHER (EEVDF, Linux 6.12). Older kernels refuse
// or ignore it: nothing is lost.
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace faultline {

/// The calling thread's slice becomes the shortest there is.
inline void RunPromptly() {
  struct Attributes {  // struct sched_attr of the kernel; Debian's libc has no name for it
    uint32_t size = sizeof(Attributes);
    uint32_t policy = SCHED_OTHER;
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime_ns = 100'000;  ///< the least that the kernel grants
    uint64_t deadline_ns = 0;
    uint64_t period_ns = 0;
  };
  static_assert(sizeof(Attributes) == 48);
  Attributes attributes;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace faultline
