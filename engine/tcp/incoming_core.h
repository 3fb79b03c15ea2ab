// Keeps a thread on the core where the packets of its connection are processed: that is where it is
// woken for the least. For the source's urgent lane, whose cores have nothing else to do: its guest
// stands still.
//
// Source: socket(7), SO_INCOMING_CPU; sched_setaffinity(2).
#pragma once

#include <sched.h>
#include <sys/socket.h>

#include <cstddef>

#include "engine/core/fault_cores.h"

namespace faultline::tcp {

/// One thread: the one that stays.
class IncomingCore {
 public:
  /// Where it stays it says in `slot` of `cores`, which outlives it; null: nobody wants to know.
  IncomingCore(FaultCores* cores, size_t slot) : cores_(cores), slot_(slot) {}
  IncomingCore(const IncomingCore&) = delete;
  IncomingCore& operator=(const IncomingCore&) = delete;
  ~IncomingCore() {
    if (core_ != FaultCores::kAnywhere) Say(FaultCores::kAnywhere);
  }

  /// Something was received: looks now and then.
  void NoteReceived(int socket) {
    if (++received_ % kLookEvery != 0) return;
    int core = -1;
    socklen_t size = sizeof core;
    if (::getsockopt(socket, SOL_SOCKET, SO_INCOMING_CPU, &core, &size) != 0) return;
    if (core >= 0 && core != core_ && core < CPU_SETSIZE) StayOn(core);
  }

 private:
  static constexpr unsigned kLookEvery = 16;

  void StayOn(int core) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(static_cast<size_t>(core), &only);
    // Not allowed there (a cpuset): anywhere else is right as well.
    if (::sched_setaffinity(0, sizeof only, &only) != 0) return;
    Say(core);
  }

  void Say(int core) {
    core_ = core;
    if (cores_ != nullptr) cores_->Set(slot_, core);
  }

  FaultCores* const cores_;
  const size_t slot_;
  unsigned received_ = 0;
  int core_ = FaultCores::kAnywhere;
};

}  // namespace faultline::tcp
