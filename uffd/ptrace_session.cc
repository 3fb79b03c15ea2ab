#include "uffd/ptrace_session.h"

#include <linux/rseq.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

#include "uffd/ptrace_arch.h"
#include "uffd/tracee.h"

namespace faultline {

namespace {

/// Once registers are changed nothing may make us give up early: the target would go on with
/// registers of ours.
constexpr int64_t kRestoreTimeoutMs = 60'000;
constexpr int kStopsMax = 10'000;

bool IsSameProcess(const InjectionOrder& order) {
  // A tick makes poll fail with EINTR, also where it does not wait: that says nothing.
  pollfd ended{.fd = order.pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) <= 0;
}

/// Waits for an interrupted thread to stop where the kernel looks for signals: registers set
/// there, those of an interrupted call included, take effect as if nothing had been. A signal that
/// comes first is delivered first.
Tracee::Wait WaitForTrap(Tracee& tracee, int64_t deadline_ms) {
  for (int stops = 0; stops < kStopsMax; ++stops) {
    const Tracee::Wait wait = tracee.WaitForStop(deadline_ms);
    const bool on_the_way = wait == Tracee::Wait::kSignal || wait == Tracee::Wait::kSyscall;
    if (!on_the_way) return wait;
    const int signal = wait == Tracee::Wait::kSignal ? tracee.signal() : 0;
    if (tracee.Resume(PTRACE_CONT, signal) != 0) return Tracee::Wait::kEnded;
  }
  return Tracee::Wait::kTimeout;
}

/// Lets the thread run to its next entry into or return from a system call. Signals are blocked;
/// SIGSTOP cannot be: it takes effect (the thread's group stops; the thread itself once detached).
Tracee::Wait RunToSyscallStop(Tracee& tracee, int64_t deadline_ms) {
  int signal = 0;
  for (int stops = 0; stops < kStopsMax; ++stops) {
    if (tracee.Resume(PTRACE_SYSCALL, signal) != 0) return Tracee::Wait::kEnded;
    const Tracee::Wait wait = tracee.WaitForStop(deadline_ms);
    if (wait == Tracee::Wait::kSignal && tracee.signal() != SIGSTOP) return wait;
    if (wait != Tracee::Wait::kTrap && wait != Tracee::Wait::kSignal) return wait;
    signal = wait == Tracee::Wait::kSignal ? SIGSTOP : 0;
  }
  return Tracee::Wait::kTimeout;
}

/// A thread stopped inside a restartable sequence would go on in its middle: the kernel forgets
/// the sequence while the thread is at our instruction. Aborting it is what the kernel does to
/// any thread it preempts there. Source: kernel/rseq.c, rseq_ip_fixup.
void AbortRestartableSequence(Tracee& tracee, const InjectionOrder& order,
                              user_regs_struct& registers) {
  const auto instruction = ptrace_arch::InstructionOutsideCall(registers);
  __ptrace_rseq_configuration rseq{};
  if (!instruction || tracee.GetRseq(rseq) != 0 || rseq.rseq_abi_pointer == 0) return;
  uint64_t sequence_address = 0;
  rseq_cs sequence{};
  const auto at = static_cast<off_t>(rseq.rseq_abi_pointer + offsetof(struct rseq, rseq_cs));
  if (::pread(order.memory, &sequence_address, 8, at) != 8 || sequence_address == 0) return;
  const ssize_t got =
      ::pread(order.memory, &sequence, sizeof(sequence), static_cast<off_t>(sequence_address));
  if (got != sizeof(sequence)) return;
  if (*instruction - sequence.start_ip >= sequence.post_commit_offset) return;
  ptrace_arch::SetInstruction(registers, sequence.abort_ip);
}

/// The call itself, entry to return. REQUIRES: registers and signal mask are set for it.
InjectionReport MakeCall(Tracee& tracee, int64_t deadline_ms) {
  const Tracee::Wait entry = RunToSyscallStop(tracee, deadline_ms);
  const Tracee::Wait exit =
      entry == Tracee::Wait::kSyscall ? RunToSyscallStop(tracee, deadline_ms) : entry;
  user_regs_struct registers{};
  if (exit == Tracee::Wait::kEnded) return {.stage = InjectionStage::kProcessGone};
  if (exit != Tracee::Wait::kSyscall || tracee.GetRegisters(registers) != 0) {
    return {.stage = InjectionStage::kCallFailed, .error_number = tracee.signal()};
  }
  return {.stage = InjectionStage::kDone, .result = ptrace_arch::CallResult(registers)};
}

/// REQUIRES: stopped in a trap. Leaves it there, as it was but for the call.
InjectionReport CallAndRestore(Tracee& tracee, const InjectionOrder& order) {
  user_regs_struct saved{};
  uint64_t mask = 0;
  int error = tracee.GetRegisters(saved);
  if (error == 0) error = tracee.GetSignalMask(mask);
  if (error != 0) return {.stage = InjectionStage::kCannotPrepare, .error_number = error};
  if (!ptrace_arch::IsNative(saved)) return {.stage = InjectionStage::kNotNative};

  user_regs_struct call = saved;
  ptrace_arch::PrepareCall(call, order.instruction, order.number, order.arguments);
  ptrace_arch::RestartWhatOnlyWeInterrupted(saved);
  AbortRestartableSequence(tracee, order, saved);

  const int64_t deadline_ms = NowMs() + kRestoreTimeoutMs;
  error = tracee.SetSignalMask(~uint64_t{0});
  if (error == 0) error = tracee.SetRegisters(call);
  InjectionReport report{.stage = InjectionStage::kCannotPrepare, .error_number = error};
  if (error == 0) {
    report = MakeCall(tracee, deadline_ms);
    // From the call's return into a trap, with no instruction of the program in between: only in
    // a trap does the kernel look again whether a call was interrupted.
    (void)tracee.Interrupt();
    (void)tracee.Resume(PTRACE_CONT, 0);
    const Tracee::Wait wait = WaitForTrap(tracee, deadline_ms);
    if (wait == Tracee::Wait::kEnded) return {.stage = InjectionStage::kProcessGone};
  }
  if (tracee.SetRegisters(saved) != 0 || tracee.SetSignalMask(mask) != 0) {
    return {.stage = InjectionStage::kLost};
  }
  return report;
}

/// Retries for a while where another tracer holds the thread: the child of an engine that was
/// killed in the middle is about to let go.
int SeizeWithPatience(Tracee& tracee, const InjectionOrder& order) {
  const int64_t deadline_ms = NowMs() + order.stop_timeout_ms;
  int error = tracee.Seize(order.suspend_seccomp);
  while (error == EPERM && NowMs() < deadline_ms) {
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 1'000'000};
    ::nanosleep(&kPause, nullptr);
    error = tracee.Seize(order.suspend_seccomp);
  }
  return error;
}

InjectionReport InjectInto(int thread, const InjectionOrder& order) {
  Tracee tracee(thread);
  const int error = SeizeWithPatience(tracee, order);
  if (error == ESRCH) return {.stage = InjectionStage::kNotStopping};  // it has just ended
  if (error != 0) return {.stage = InjectionStage::kMayNotTrace, .error_number = error};
  (void)tracee.Interrupt();
  const Tracee::Wait wait = WaitForTrap(tracee, NowMs() + order.stop_timeout_ms);
  if (wait != Tracee::Wait::kTrap) return {.stage = InjectionStage::kNotStopping};
  // Alive after we hold the thread: its number cannot have become another's.
  InjectionReport report{.stage = InjectionStage::kProcessGone};
  if (IsSameProcess(order)) report = CallAndRestore(tracee, order);
  (void)tracee.Detach();  // fails only if the thread has been killed meanwhile
  return report;
}

void Tick(int) {}

}  // namespace

void StartInjectionTicks() {
  struct sigaction action {};
  action.sa_handler = Tick;  // without SA_RESTART: waitpid returns EINTR
  ::sigaction(SIGALRM, &action, nullptr);
  sigset_t others;
  ::sigfillset(&others);
  ::sigdelset(&others, SIGALRM);
  ::sigprocmask(SIG_SETMASK, &others, nullptr);
  constexpr timeval kInterval{.tv_sec = 0, .tv_usec = 20'000};
  const itimerval timer{.it_interval = kInterval, .it_value = kInterval};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

InjectionReport RunInjection(const InjectionOrder& order) {
  InjectionReport report{.stage = InjectionStage::kNotStopping};
  const int64_t deadline_ms = NowMs() + order.total_timeout_ms;
  for (size_t i = 0; i < order.thread_count && NowMs() < deadline_ms; ++i) {
    report = InjectInto(order.threads[i], order);
    if (report.stage != InjectionStage::kNotStopping) break;
  }
  if (!IsSameProcess(order)) report.stage = InjectionStage::kProcessGone;
  return report;
}

}  // namespace faultline
