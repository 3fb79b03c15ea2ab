// A thread under ptrace: the requests and stops that the injector uses, and nothing above them.
// Async-signal-safe. Calls return 0 or an errno. Source: ptrace(2).
#pragma once

#include <elf.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace faultline {

/// ptrace's argument types depend on the request; the raw call takes words. 0 or an errno.
inline int Ptrace(long request, int thread, uint64_t address, uint64_t data) {
  return ::syscall(SYS_ptrace, request, thread, address, data) == -1 ? errno : 0;
}

template <class T>
uint64_t Word(T* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

inline int64_t NowMs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

/// A thread that we trace.
class Tracee {
 public:
  explicit Tracee(int thread) : thread_(thread) {}

  enum class Wait : uint8_t { kTrap = 1, kSyscall, kSignal, kEnded, kTimeout };

  int Seize(bool suspend_seccomp) {
    const uint64_t options =
        PTRACE_O_TRACESYSGOOD | (suspend_seccomp ? uint64_t{PTRACE_O_SUSPEND_SECCOMP} : 0);
    return Ptrace(PTRACE_SEIZE, thread_, 0, options);
  }
  int Interrupt() { return Ptrace(PTRACE_INTERRUPT, thread_, 0, 0); }
  int Resume(long request, int signal) {
    return Ptrace(request, thread_, 0, static_cast<uint64_t>(signal));
  }
  int Detach() { return Ptrace(PTRACE_DETACH, thread_, 0, 0); }

  int GetRegisters(user_regs_struct& registers) {
    iovec place{&registers, sizeof(registers)};
    return Ptrace(PTRACE_GETREGSET, thread_, NT_PRSTATUS, Word(&place));
  }
  int SetRegisters(user_regs_struct registers) {
    iovec place{&registers, sizeof(registers)};
    return Ptrace(PTRACE_SETREGSET, thread_, NT_PRSTATUS, Word(&place));
  }
  int GetSignalMask(uint64_t& mask) {
    return Ptrace(PTRACE_GETSIGMASK, thread_, sizeof(mask), Word(&mask));
  }
  int SetSignalMask(uint64_t mask) {
    return Ptrace(PTRACE_SETSIGMASK, thread_, sizeof(mask), Word(&mask));
  }
  int GetRseq(__ptrace_rseq_configuration& rseq) {
    return static_cast<int>(::syscall(SYS_ptrace, PTRACE_GET_RSEQ_CONFIGURATION, thread_,
                                      sizeof(rseq), &rseq)) == sizeof(rseq)
               ? 0
               : ENOSYS;
  }

  /// Until the thread stops; a signal's number is then in signal().
  Wait WaitForStop(int64_t deadline_ms) {
    while (true) {
      int status = 0;
      const int waited = ::waitpid(thread_, &status, __WALL);
      if (waited == thread_) return Classify(status);
      if (errno != EINTR) return Wait::kEnded;
      if (NowMs() > deadline_ms) return Wait::kTimeout;
    }
  }
  [[nodiscard]] int signal() const { return signal_; }

 private:
  static constexpr int kSyscallStop = SIGTRAP | 0x80;  // with PTRACE_O_TRACESYSGOOD

  Wait Classify(int status) {
    if (!WIFSTOPPED(status)) return Wait::kEnded;
    signal_ = WSTOPSIG(status);
    if (status >> 16 == PTRACE_EVENT_STOP) return Wait::kTrap;  // ours, or a group stop
    return signal_ == kSyscallStop ? Wait::kSyscall : Wait::kSignal;
  }

  const int thread_;
  int signal_ = 0;
};

}  // namespace faultline
