// What a thread is for, told to the scheduler.
//
// An urgent thread runs for microseconds at a time while a thread of the guest sleeps on its
// answer: it gets the lowest real-time priority, so that it never queues behind the pusher, a
// build, or another guest. It never spins, so it cannot starve anybody (and sched(7) leaves 5 % to
// the others in any case). Without the privilege, a better nice value, or nothing.
#pragma once

#include <cstdint>

namespace faultline {

enum class ThreadRole : uint8_t { kUrgent = 1, kBulk };

/// For the calling thread.
void TakeRole(ThreadRole role);

}  // namespace faultline
