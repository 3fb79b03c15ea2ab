#include "uffd/userfault_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <string>

#include "engine/core/check.h"
#include "uffd/system_error.h"
#include "uffd/uffd_abi.h"

namespace faultline {

namespace {

struct NamedFeature {
  uint64_t bit;
  const char* name;
  const char* since;
};

// What the engine cannot do without. The newest decides: Linux 5.14.
constexpr std::array<NamedFeature, 8> kNeeded{{
    {UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM", "4.11"},
    {UFFD_FEATURE_MISSING_HUGETLBFS, "MISSING_HUGETLBFS", "4.11"},
    {UFFD_FEATURE_EVENT_REMOVE, "EVENT_REMOVE", "4.11"},
    {UFFD_FEATURE_EVENT_REMAP, "EVENT_REMAP", "4.11"},
    {UFFD_FEATURE_EVENT_UNMAP, "EVENT_UNMAP", "4.11"},
    {UFFD_FEATURE_THREAD_ID, "THREAD_ID", "4.14"},
    {UFFD_FEATURE_MINOR_HUGETLBFS, "MINOR_HUGETLBFS", "5.13"},
    {UFFD_FEATURE_MINOR_SHMEM, "MINOR_SHMEM", "5.14"},
}};

constexpr uint64_t NeededBits() {
  uint64_t bits = 0;
  for (const NamedFeature& feature : kNeeded) bits |= feature.bit;
  return bits;
}

UniqueFd NewForThisProcess() {
  return UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
}

/// What the kernel offers; 0 if it does not let us ask. A userfaultfd is spent by asking.
uint64_t KernelFeatures() {
  const UniqueFd probe = NewForThisProcess();
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (!probe.valid() || ::ioctl(probe.get(), UFFDIO_API, &api) != 0) return 0;
  return api.features;
}

tl::unexpected<Error> HandshakeFailure(int error_number) {
  const uint64_t offered = KernelFeatures();
  std::string lacking;
  for (const NamedFeature& feature : kNeeded) {
    if ((offered & feature.bit) != 0) continue;
    lacking +=
        fmt::format("{}{} (Linux {})", lacking.empty() ? "" : ", ", feature.name, feature.since);
  }
  if (offered != 0 && !lacking.empty()) {
    return Fail(ErrorKind::kRefused,
                fmt::format("this kernel's userfaultfd lacks {}: run Linux 5.14 or newer, built "
                            "with CONFIG_USERFAULTFD, SHMEM and HUGETLBFS",
                            lacking));
  }
  return SystemFailure(
      "agree on userfaultfd features (UFFDIO_API; EINVAL: somebody has done so "
      "on this descriptor before)",
      error_number);
}

UffdOutcome OutcomeOf(int error_number) {
  switch (error_number) {
    case EEXIST:
      return UffdOutcome::kAlreadyMapped;
    case EAGAIN:
      return UffdOutcome::kEventUnread;
    case ESRCH:
      return UffdOutcome::kProcessGone;
    case ENOENT:
      return UffdOutcome::kNotRegistered;
    case EFAULT:
      return UffdOutcome::kNothingThere;
    case ENOMEM:
    case ENOSPC:
      return UffdOutcome::kNoMemory;
    case EIO:
    case EHWPOISON:
      return UffdOutcome::kPoisoned;
    case EINTR:
    case EBUSY:
      return UffdOutcome::kInterrupted;
    default:
      break;
  }
  // EINVAL, EBADF, ENOTTY: a range that is not whole pages, or no userfaultfd.
  CheckFailed("userfaultfd ioctl is used as the kernel wants it", __FILE__, __LINE__);
}

/// `progress` is where the kernel reports bytes done (or a negated errno) beside errno. Bytes
/// done and EAGAIN together say nothing about why it stopped: the next call will.
UffdProgress Answer(int fd, unsigned long request, void* argument, const __s64& progress,
                    ByteCount length) {
  if (::ioctl(fd, request, argument) == 0) return {UffdOutcome::kDone, length};
  const int error_number = errno;
  if (progress > 0) return {UffdOutcome::kPartial, ByteCount(static_cast<uint64_t>(progress))};
  return {OutcomeOf(error_number), ByteCount(0)};
}

uffdio_range RangeOf(VmmAddr start, ByteCount length) {
  return {.start = start.value(), .len = length.value()};
}

}  // namespace

Result<UserfaultFd> UserfaultFd::CreateForThisProcess() {
  UniqueFd fd = NewForThisProcess();
  if (!fd.valid()) {
    return SystemFailure(
        "create a userfaultfd (EPERM: run as root, or set vm.unprivileged_userfaultfd=1; ENOSYS: "
        "the kernel needs CONFIG_USERFAULTFD)",
        errno);
  }
  return Adopt(std::move(fd));
}

Result<UserfaultFd> UserfaultFd::Adopt(UniqueFd fd) {
  uffdio_api api{.api = UFFD_API, .features = NeededBits(), .ioctls = 0};
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) return HandshakeFailure(errno);
  return UserfaultFd(std::move(fd));
}

bool UserfaultFd::KernelCanPoison() { return (KernelFeatures() & UFFD_FEATURE_POISON) != 0; }

Status UserfaultFd::Register(VmmAddr start, ByteCount length, UffdMode mode) const {
  FAULTLINE_CHECK(mode != UffdMode::kInvalid);
  uint64_t bits = UFFDIO_REGISTER_MODE_MISSING;
  if (mode == UffdMode::kMissingAndMinor) bits |= UFFDIO_REGISTER_MODE_MINOR;
  uffdio_register request{.range = RangeOf(start, length), .mode = bits, .ioctls = 0};
  if (::ioctl(fd_.get(), UFFDIO_REGISTER, &request) == 0) return {};
  return SystemFailure(
      fmt::format("register {:#x}+{:#x} with userfaultfd (EBUSY: another one has it, is another "
                  "engine attached?; EINVAL: not memory that can be served)",
                  start.value(), length.value()),
      errno);
}

Status UserfaultFd::Unregister(VmmAddr start, ByteCount length) const {
  if (TryUnregister(start, length)) return {};
  return SystemFailure(
      fmt::format("unregister {:#x}+{:#x} from userfaultfd", start.value(), length.value()), errno);
}

bool UserfaultFd::TryUnregister(VmmAddr start, ByteCount length) const {
  uffdio_range range = RangeOf(start, length);
  return ::ioctl(fd_.get(), UFFDIO_UNREGISTER, &range) == 0;
}

UffdProgress UserfaultFd::Continue(VmmAddr start, ByteCount length) const {
  uffdio_continue request{.range = RangeOf(start, length), .mode = 0, .mapped = 0};
  return Answer(fd_.get(), UFFDIO_CONTINUE, &request, request.mapped, length);
}

UffdProgress UserfaultFd::ZeroPage(VmmAddr start, ByteCount length) const {
  uffdio_zeropage request{.range = RangeOf(start, length), .mode = 0, .zeropage = 0};
  return Answer(fd_.get(), UFFDIO_ZEROPAGE, &request, request.zeropage, length);
}

UffdProgress UserfaultFd::Copy(VmmAddr to, HostAddr from, ByteCount length) const {
  uffdio_copy request{
      .dst = to.value(), .src = from.value(), .len = length.value(), .mode = 0, .copy = 0};
  return Answer(fd_.get(), UFFDIO_COPY, &request, request.copy, length);
}

UffdProgress UserfaultFd::Poison(VmmAddr start, ByteCount length) const {
  uffdio_poison request{.range = RangeOf(start, length), .mode = 0, .updated = 0};
  return Answer(fd_.get(), UFFDIO_POISON, &request, request.updated, length);
}

void UserfaultFd::Wake(VmmAddr start, ByteCount length) const {
  uffdio_range range = RangeOf(start, length);
  // Nothing can go wrong that somebody could act on: where no one waits, no one is woken.
  (void)::ioctl(fd_.get(), UFFDIO_WAKE, &range);
}

}  // namespace faultline
