// The injector's part that runs in the child, between fork and _exit.
//
// Everything here is async-signal-safe: no allocation, no lock, no stdio. The parent may have had
// threads, and may be dead already.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace faultline {

inline constexpr size_t kInjectionThreadsMax = 64;

/// Made by the parent before the fork.
struct InjectionOrder {
  int pid = 0;
  int pidfd = -1;                                   ///< proves that `pid` is still the same process
  int memory = -1;                                  ///< /proc/PID/mem, for reading
  std::array<int, kInjectionThreadsMax> threads{};  ///< to be tried in this order
  size_t thread_count = 0;
  uint64_t instruction = 0;  ///< address of a system call instruction in the target
  long number = 0;
  std::array<uint64_t, 6> arguments{};
  bool suspend_seccomp = false;
  int64_t stop_timeout_ms = 0;   ///< for each thread to stop
  int64_t total_timeout_ms = 0;  ///< for the first of them to stop
};

enum class InjectionStage : uint8_t {
  kInvalid = 0,
  kDone,           ///< `result` is the call's
  kMayNotTrace,    ///< PTRACE_SEIZE failed with `error_number`
  kProcessGone,    ///< ended, or its pid is another's now
  kNotStopping,    ///< no thread could be stopped in time
  kNotNative,      ///< a 32-bit program
  kCannotPrepare,  ///< registers or signal mask: `error_number`; nothing was changed
  kCallFailed,     ///< the call did not run to its end; registers are restored
  kLost,           ///< registers could not be restored: the target may be damaged
};

struct InjectionReport {
  InjectionStage stage = InjectionStage::kInvalid;
  int error_number = 0;
  int64_t result = 0;
};

/// Stops a thread, has it make the call, restores it, lets it go. Bounded.
InjectionReport RunInjection(const InjectionOrder& order);

/// Makes blocking waits end now and then, so that deadlines are looked at. Call once in the child.
void StartInjectionTicks();

}  // namespace faultline
