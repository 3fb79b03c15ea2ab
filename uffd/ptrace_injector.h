// One system call, made by another process.
//
// A child of ours in a session of its own stops ONE thread of the target (PTRACE_SEIZE and
// PTRACE_INTERRUPT; its other threads run on), saves its registers, lets it make the call from a
// `syscall` instruction of its vDSO, restores the registers and lets go: well under 1 ms. The
// child needs nobody: if this process dies at any instruction, it restores and detaches all the
// same. What the thread was doing is unharmed: a blocking call that the stop interrupted goes on,
// or is made again before the program can see anything of it.
//
// x86-64 only so far; what depends on it is in ptrace_arch.h and ptrace_x86_64.cc.
// Source: ptrace(2), arch/x86/kernel/signal.c (restart of interrupted calls), rseq(2).
#pragma once

#include <array>
#include <cstdint>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "uffd/target_process.h"

namespace faultline {

struct RemoteCall {
  long number = 0;  ///< SYS_…
  std::array<uint64_t, 6> arguments{};
  /// The result is a new descriptor: closed again if nobody is left to receive its number.
  bool makes_descriptor = false;
};

/// The call's own result (a negated errno is a success of ours). Bounded by `timeout`.
/// On error the target runs on and has not made the call, except where the message says so.
Result<int64_t> InjectCall(const TargetProcess& target, const RemoteCall& call,
                           Nanos timeout = std::chrono::seconds(10));

}  // namespace faultline
