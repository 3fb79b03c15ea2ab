#include "uffd/attach.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <cerrno>

#include "uffd/ptrace_injector.h"
#include "uffd/system_error.h"
#include "uffd/uffd_abi.h"

namespace faultline {

namespace {

constexpr uint64_t kFlags = O_CLOEXEC | O_NONBLOCK;

/// The VMM has made a userfaultfd: take our copy. Without one, it would be left for nothing.
Result<AttachedUserfault> FetchNew(const TargetProcess& target, int remote_fd) {
  Result<UserfaultFd> uffd = target.CopyFd(remote_fd).and_then(
      [](UniqueFd fd) { return UserfaultFd::Adopt(std::move(fd)); });
  if (uffd.has_value()) return AttachedUserfault{std::move(uffd).value(), remote_fd};
  (void)CloseRemoteFd(target, remote_fd);
  return tl::make_unexpected(std::move(uffd).error());
}

Result<AttachedUserfault> AttachBy(const TargetProcess& target, const RemoteCall& call,
                                   const char* what_to_do) {
  FAULTLINE_ASSIGN(const int64_t result, InjectCall(target, call));
  if (result >= 0) return FetchNew(target, static_cast<int>(result));
  Error error = SystemFailure(fmt::format("make a userfaultfd inside process {} ({})", target.pid(),
                                          what_to_do),
                              static_cast<int>(-result))
                    .value();
  error.kind = ErrorKind::kRefused;
  return tl::make_unexpected(std::move(error));
}

}  // namespace

Result<AttachedUserfault> AttachUserfault(const TargetProcess& target) {
  return AttachBy(target,
                  {.number = SYS_userfaultfd, .arguments = {kFlags}, .makes_descriptor = true},
                  "EPERM: the process is unprivileged, so /dev/userfaultfd has to be passed in");
}

Result<AttachedUserfault> AttachThroughDevice(const TargetProcess& target, int remote_device_fd) {
  return AttachBy(target,
                  {.number = SYS_ioctl,
                   .arguments = {static_cast<uint64_t>(remote_device_fd),
                                 uint64_t{USERFAULTFD_IOC_NEW}, kFlags},
                   .makes_descriptor = true},
                  "through /dev/userfaultfd");
}

Result<UniqueFd> OpenUserfaultDevice() {
  UniqueFd fd(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (fd.valid()) return fd;
  return SystemFailure(
      "open /dev/userfaultfd (ENOENT: Linux 6.1 is needed; EACCES: run the engine "
      "as root or give it the device)",
      errno);
}

Result<AttachedUserfault> ReattachUserfault(const TargetProcess& target, int remote_fd) {
  // The dead engine may have died before it agreed on the features.
  FAULTLINE_ASSIGN(UniqueFd maybe_fresh, target.CopyFd(remote_fd));
  Result<UserfaultFd> adopted = UserfaultFd::Adopt(std::move(maybe_fresh));
  if (adopted.has_value()) return AttachedUserfault{std::move(adopted).value(), remote_fd};
  FAULTLINE_ASSIGN(UniqueFd fd, target.CopyFd(remote_fd));
  return AttachedUserfault{UserfaultFd::Resume(std::move(fd)), remote_fd};
}

Status CloseRemoteFd(const TargetProcess& target, int remote_fd) {
  FAULTLINE_ASSIGN(
      const int64_t result,
      InjectCall(target, {.number = SYS_close, .arguments = {static_cast<uint64_t>(remote_fd)}}));
  if (result == 0) return {};
  return SystemFailure(
      fmt::format("close descriptor {} inside process {}", remote_fd, target.pid()),
      static_cast<int>(-result));
}

}  // namespace faultline
