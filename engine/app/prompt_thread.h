// How soon a thread of ours runs when it is woken on a busy host.
//
// An urgent thread works for some microseconds and sleeps again. The scheduler lets a woken thread
// in at once if its deadline is the earliest, which a short slice sees to, and if it has not had
// more than its share of the processor yet. Beside a pusher and a vCPU it soon has, and would wait
// until the pusher's slice is over, half a millisecond at a time: hence nine times the weight. It
// takes no more of the processor for it than the guest's faults need. With the largest weight the
// guest faults so much more often that the pushers fall behind (ARCHITECTURE.md, Decisions).
//
// Source: sched_setattr(2), sched_nice and, for SCHED_OTHER, sched_runtime (EEVDF, Linux 6.12).
// Older kernels ignore the slice; without CAP_SYS_NICE the weight stays as it is: nothing is lost.
#pragma once

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace faultline {

struct SchedulingAttributes {  // struct sched_attr of the kernel; Debian's libc has no name for it
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_ns = 0;  ///< the slice; 0: the kernel's
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
};
static_assert(sizeof(SchedulingAttributes) == 48);

inline constexpr int32_t kPromptNice = -10;
inline constexpr uint64_t kShortestSliceNs = 100'000;  ///< the least that the kernel grants

/// The calling thread's slice becomes the shortest there is, its weight nine others'.
inline void RunPromptly() {
  SchedulingAttributes attributes{.nice = kPromptNice, .runtime_ns = kShortestSliceNs};
  if (syscall(SYS_sched_setattr, 0, &attributes, 0) == 0) return;
  attributes.nice = getpriority(PRIO_PROCESS, 0);  // on Linux: the calling thread's
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace faultline
