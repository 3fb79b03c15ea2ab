#include "uffd/target_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>

#include "uffd/system_error.h"

namespace faultline {

namespace {

/// Field 22 of /proc/PID/stat. The name in field 2 may hold anything, blanks and brackets too.
Result<uint64_t> StartTimeOf(int pid) {
  constexpr int kFieldsAfterName = 20;  // state is the first of them, start time the 20th
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  if (!file || name_end == std::string::npos) {
    return SystemFailure(fmt::format("read /proc/{}/stat", pid), ENOENT);
  }
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  for (int i = 0; i < kFieldsAfterName; ++i) fields >> field;
  return std::stoull(field);
}

}  // namespace

Result<TargetProcess> TargetProcess::Open(int pid) {
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    return SystemFailure(fmt::format("find process {} (is it the VMM's?)", pid), errno);
  }
  FAULTLINE_ASSIGN(const uint64_t start_time, StartTimeOf(pid));
  TargetProcess target(pid, std::move(pidfd), start_time);
  // Alive after its start time was read: so both are of the same process.
  if (target.IsAlive()) return target;
  return Fail(ErrorKind::kRefused, fmt::format("process {} has ended", pid));
}

bool TargetProcess::IsAlive() const {
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) <= 0;  // EINTR says nothing
}

Result<UniqueFd> TargetProcess::CopyFd(int remote_fd) const {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd_.get(), remote_fd, 0)));
  if (fd.valid()) return fd;
  return SystemFailure(fmt::format("copy descriptor {} of process {} (EPERM: run the engine as "
                                   "root or with CAP_SYS_PTRACE)",
                                   remote_fd, pid_),
                       errno);
}

}  // namespace faultline
