#include "engine/tcp/uring.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/core/check.h"

namespace faultline {
namespace {

// Not in every liburing that we build with; the kernel's numbers (io_uring_setup(2)).
constexpr unsigned kSubmitAll = 1U << 7;      // 5.18: one bad entry does not hold up the others
constexpr unsigned kTaskrunFlag = 1U << 9;    // 5.19: the ring's flags say that there is news
constexpr unsigned kSingleIssuer = 1U << 12;  // 6.0
constexpr unsigned kDeferTaskrun = 1U << 13;  // 6.1

/// Without them a bounded wait is not bounded, or completions can be lost.
constexpr unsigned kFeaturesNeeded =
    IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL;

std::string_view Advice(int error) {
  switch (error) {
    case EPERM:
      return " (kernel.io_uring_disabled, or a seccomp filter)";
    case ENOSYS:
      return " (not built into this kernel, or filtered)";
    case ENOMEM:
      return " (RLIMIT_MEMLOCK, on kernels before 5.12)";
    default:
      return "";
  }
}

/// The best set-up that this kernel knows; 0 or -errno.
int SetUp(unsigned entries, io_uring& ring) {
  int error = -EINVAL;
  for (const unsigned flags : {kSubmitAll | kTaskrunFlag | kSingleIssuer | kDeferTaskrun, 0U}) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_R_DISABLED;
    error = io_uring_queue_init_params(entries, &ring, &params);
    if (error != -EINVAL) return error;
  }
  return error;
}

/// Errors of ours. The rest is the world's: ETIME, EINTR, or EAGAIN and EBUSY until completions
/// are taken.
void CheckUse(int result) {
  FAULTLINE_CHECK(result != -EEXIST && result != -EBADF && result != -EINVAL);
}

}  // namespace

Result<std::unique_ptr<Uring>> Uring::Create(unsigned entries) {
  io_uring ring{};
  const int error = SetUp(entries, ring);
  if (error != 0) {
    return Fail(ErrorKind::kSystem, fmt::format("setting up io_uring: {}{}; use epoll instead",
                                                std::strerror(-error), Advice(-error)));
  }
  if ((ring.features & kFeaturesNeeded) != kFeaturesNeeded) {
    io_uring_queue_exit(&ring);
    return Fail(ErrorKind::kSystem, "setting up io_uring: Linux 5.11 is needed; use epoll instead");
  }
  return std::unique_ptr<Uring>(new Uring(ring));
}

Uring::~Uring() { io_uring_queue_exit(&ring_); }

void Uring::BecomeIssuer() {
  if (issuer_ != std::thread::id()) return;
  // Not io_uring_enable_rings(): liburing 2.3 declares it and forgets to export it.
  FAULTLINE_CHECK(syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                          nullptr, 0) == 0);
  issuer_ = std::this_thread::get_id();
}

io_uring_sqe& Uring::NextSqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    BecomeIssuer();
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  FAULTLINE_CHECK(sqe != nullptr);
  return *sqe;
}

void Uring::Submit() {
  BecomeIssuer();
  CheckUse(io_uring_submit(&ring_));
}

void Uring::SubmitAndWait() {
  BecomeIssuer();
  CheckUse(io_uring_submit_and_wait(&ring_, 1));
}

void Uring::SubmitAndWait(Nanos timeout) {
  BecomeIssuer();
  int result = 0;
  if (timeout <= Nanos::zero()) {
    result = io_uring_submit_and_get_events(&ring_);
  } else {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(timeout);
    __kernel_timespec time{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
    io_uring_cqe* ignored = nullptr;
    result = io_uring_submit_and_wait_timeout(&ring_, &ignored, 1, &time, nullptr);
  }
  CheckUse(result);
}

}  // namespace faultline
