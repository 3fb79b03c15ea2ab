#include "uffd/ptrace_injector.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "uffd/proc_maps.h"
#include "uffd/ptrace_arch.h"
#include "uffd/ptrace_session.h"
#include "uffd/system_error.h"
#include "uffd/target_threads.h"

namespace faultline {

namespace {

/// How long one thread may take to stop: it is signalled, so only an uninterruptible sleep lasts.
constexpr int64_t kStopTimeoutMs = 1000;

/// The vDSO first: every process has it, and it does not change. Then any other code.
Result<uint64_t> FindCallInstruction(int pid, int memory) {
  FAULTLINE_ASSIGN(std::vector<ProcMapping> mappings, ReadProcMaps(pid));
  std::stable_partition(mappings.begin(), mappings.end(),
                        [](const ProcMapping& mapping) { return mapping.path == "[vdso]"; });
  std::vector<std::byte> code;
  for (const ProcMapping& mapping : mappings) {
    if (!mapping.executable || mapping.path == "[vsyscall]") continue;
    code.resize(std::min<uint64_t>(mapping.length().value(), uint64_t{1} << 20));
    const ssize_t got =
        ::pread(memory, code.data(), code.size(), static_cast<off_t>(mapping.start.value()));
    if (got <= 0) continue;
    const auto offset =
        ptrace_arch::FindCallInstruction(std::span(code).first(static_cast<size_t>(got)));
    if (offset) return mapping.start.value() + *offset;
  }
  return Fail(ErrorKind::kRefused, fmt::format("process {} has no system call instruction", pid));
}

/// Gives the child what it needs and nothing else that the engine has open: not its sockets, and
/// no copy of a userfaultfd.
void CloseAllBut(std::array<int, 3> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned from = STDERR_FILENO + 1;
  for (const int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (kept > from) (void)::syscall(SYS_close_range, from, kept - 1, 0);
    from = kept + 1;
  }
  (void)::syscall(SYS_close_range, from, ~0U, 0);
}

/// The OOM killer must not take the child in the middle.
void ProtectFromOomKiller() {
  const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = ::write(fd, "-1000", 5);
  ::close(fd);
}

[[noreturn]] void RunChild(const InjectionOrder& order, bool makes_descriptor, int result_fd) {
  ::setsid();
  ::prctl(PR_SET_NAME, "call-injector");  // not found by those who look for the engine's name
  ProtectFromOomKiller();
  CloseAllBut({order.pidfd, order.memory, result_fd});
  StartInjectionTicks();
  const InjectionReport report = RunInjection(order);
  const bool received = ::write(result_fd, &report, sizeof(report)) == sizeof(report);
  const bool made = makes_descriptor && report.stage == InjectionStage::kDone && report.result >= 0;
  if (!received && made) {
    InjectionOrder undo = order;
    undo.number = SYS_close;
    undo.arguments = {static_cast<uint64_t>(report.result)};
    RunInjection(undo);
  }
  ::_exit(0);
}

/// Signals stay away from the child until it has its own mask.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;
  ~BlockSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

/// Forks twice: the child is nobody's, so it neither needs this process nor leaves it a zombie.
Status StartChild(const InjectionOrder& order, bool makes_descriptor, int result_fd) {
  const BlockSignals quiet;
  const pid_t between = ::fork();
  if (between == 0) {
    const pid_t child = ::fork();
    if (child == 0) RunChild(order, makes_descriptor, result_fd);
    ::_exit(child > 0 ? 0 : 1);
  }
  if (between < 0) return SystemFailure("start the process that attaches (fork)", errno);
  int status = 0;
  while (::waitpid(between, &status, 0) < 0 && errno == EINTR) {
  }
  return {};
}

Result<InjectionReport> ReceiveReport(int fd, int pid, Nanos timeout) {
  pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  int ready = 0;
  do {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    ready = ::poll(&readable, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
  } while (ready < 0 && errno == EINTR);
  InjectionReport report;
  if (ready > 0 && ::read(fd, &report, sizeof(report)) == sizeof(report)) return report;
  if (ready > 0) {
    return Fail(
        ErrorKind::kSystem,
        fmt::format("attach to process {}: the helper process died; is the VMM intact?", pid));
  }
  return Fail(ErrorKind::kTimeout,
              fmt::format("attach to process {}: a thread that was stopped does not come back from "
                          "its call in time; it is restored as soon as it does",
                          pid));
}

Result<int64_t> ResultOf(const InjectionReport& report, int pid) {
  switch (report.stage) {
    case InjectionStage::kDone:
      return report.result;
    case InjectionStage::kMayNotTrace:
      return SystemFailure(
          fmt::format("stop a thread of process {} (EPERM: is a debugger attached? run the engine "
                      "as root or with CAP_SYS_PTRACE; a VMM confined by seccomp also needs "
                      "CAP_SYS_ADMIN)",
                      pid),
          report.error_number);
    case InjectionStage::kProcessGone:
      return Fail(ErrorKind::kRefused, fmt::format("process {} has ended", pid));
    case InjectionStage::kNotStopping:
      return Fail(ErrorKind::kTimeout,
                  fmt::format("no thread of process {} could be stopped: all sleep "
                              "uninterruptibly (look at /proc/{}/task/*/stack)",
                              pid, pid));
    case InjectionStage::kNotNative:
      return Fail(ErrorKind::kRefused, fmt::format("process {} is a 32-bit program", pid));
    case InjectionStage::kCannotPrepare:
      return SystemFailure(fmt::format("read or set registers of process {}", pid),
                           report.error_number);
    case InjectionStage::kCallFailed:
      return Fail(ErrorKind::kSystem,
                  fmt::format("process {} did not finish the call (stop {}); it is restored", pid,
                              report.error_number));
    default:
      return Fail(
          ErrorKind::kSystem,
          fmt::format("the registers of a thread of process {} could not be restored", pid));
  }
}

}  // namespace

Result<int64_t> InjectCall(const TargetProcess& target, const RemoteCall& call, Nanos timeout) {
  if (const char* why = ptrace_arch::WhyUnsupported()) return Fail(ErrorKind::kRefused, why);
  const int pid = target.pid();
  const std::string memory_path = fmt::format("/proc/{}/mem", pid);
  const UniqueFd memory(::open(memory_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid()) {
    return SystemFailure(fmt::format("open {} (ESRCH: its main thread has ended)", memory_path),
                         errno);
  }
  FAULTLINE_ASSIGN(const uint64_t instruction, FindCallInstruction(pid, memory.get()));
  FAULTLINE_ASSIGN(const TargetThreads threads, TargetThreads::Of(pid));

  InjectionOrder order{.pid = pid,
                       .pidfd = target.pidfd(),
                       .memory = memory.get(),
                       .instruction = instruction,
                       .number = call.number,
                       .arguments = call.arguments,
                       .suspend_seccomp = threads.filtered_by_seccomp,
                       .stop_timeout_ms = kStopTimeoutMs,
                       .total_timeout_ms = timeout / std::chrono::milliseconds(2)};
  order.thread_count = std::min(threads.by_preference.size(), order.threads.size());
  std::copy_n(threads.by_preference.begin(), order.thread_count, order.threads.begin());

  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return SystemFailure("make a pipe", errno);
  const UniqueFd result_fd(pipe_fds[0]);
  UniqueFd child_end(pipe_fds[1]);
  FAULTLINE_TRY(StartChild(order, call.makes_descriptor, child_end.get()));
  child_end.Reset();
  FAULTLINE_ASSIGN(const InjectionReport report, ReceiveReport(result_fd.get(), pid, timeout));
  return ResultOf(report, pid);
}

}  // namespace faultline
