// A call injected into a thread that is blocked in one: the blocked call must end as if nothing
// had happened, whatever way the kernel has of restarting it.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <ostream>
#include <string>

#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
#include "uffd/attach.h"
#include "uffd/ptrace_injector.h"

namespace faultline::testing {
namespace {

constexpr int kInjections = 12;

struct Shared {
  std::atomic<uint32_t> futex{0};
};

/// What the blocked thread and the test know.
struct Scene {
  int read_end;
  int write_end;
  int socket_near;
  int socket_far;
  Shared* shared;
};

/// Blocks; 0 if the call ended as it should, else something to look up in errno.h.
using Block = int (*)(const Scene&);
/// Lets the blocked call end, from outside. Not for those that time out.
using Release = void (*)(const Scene&, int pid);

void WriteByte(const Scene& scene, int) { ASSERT_EQ(::write(scene.write_end, "x", 1), 1); }
void SendByte(const Scene& scene, int) { ASSERT_EQ(::write(scene.socket_far, "x", 1), 1); }
void WakeFutex(const Scene& scene, int) {
  scene.shared->futex = 1;
  ::syscall(SYS_futex, &scene.shared->futex, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}
void RaiseUsr1(const Scene&, int pid) { ::kill(pid, SIGUSR1); }
void WaitForTheTimeout(const Scene&, int) {}

sigset_t Usr1() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGUSR1);
  return set;
}

int BlockInPpoll(const Scene& scene) {
  pollfd readable{.fd = scene.read_end, .events = POLLIN, .revents = 0};
  const sigset_t mask = Usr1();
  return ::ppoll(&readable, 1, nullptr, &mask) == 1 ? 0 : errno;
}

int BlockInPollWithTimeout(const Scene& scene) {
  pollfd readable{.fd = scene.read_end, .events = POLLIN, .revents = 0};
  return ::poll(&readable, 1, 60'000) == 1 ? 0 : errno;
}

int BlockInSelect(const Scene& scene) {
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(scene.read_end, &readable);
  return ::select(scene.read_end + 1, &readable, nullptr, nullptr, nullptr) == 1 ? 0 : errno;
}

int BlockInRead(const Scene& scene) {
  char byte = 0;
  return ::read(scene.read_end, &byte, 1) == 1 && byte == 'x' ? 0 : errno;
}

int BlockInEpollWait(const Scene& scene) {
  const int epoll = ::epoll_create1(0);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 42}};
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, scene.read_end, &event);
  event = {};
  return ::epoll_wait(epoll, &event, 1, -1) == 1 && event.data.u64 == 42 ? 0 : errno;
}

/// 0: woken. EAGAIN: woken between the stop and the new wait, which sees the changed value.
int WaitOnFutex(const Scene& scene, const timespec* timeout) {
  std::atomic<uint32_t>* futex = &scene.shared->futex;
  const long result = ::syscall(SYS_futex, futex, FUTEX_WAIT, 0, timeout, nullptr, 0);
  return result == 0 || (errno == EAGAIN && *futex == 1) ? 0 : errno;
}

int BlockInFutex(const Scene& scene) { return WaitOnFutex(scene, nullptr); }

int BlockInFutexWithTimeout(const Scene& scene) {
  const timespec timeout{.tv_sec = 60, .tv_nsec = 0};
  return WaitOnFutex(scene, &timeout);
}

int BlockInSigtimedwait(const Scene&) {
  const sigset_t set = Usr1();
  return ::sigtimedwait(&set, nullptr, nullptr) == SIGUSR1 ? 0 : errno;
}

int BlockInReceiveWithTimeout(const Scene& scene) {
  const timeval timeout{.tv_sec = 60, .tv_usec = 0};
  ::setsockopt(scene.socket_near, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  char byte = 0;
  return ::recv(scene.socket_near, &byte, 1, 0) == 1 ? 0 : errno;
}

/// Returns EINTR by design, but only once a handler has run.
int BlockInSigsuspend(const Scene&) {
  static volatile sig_atomic_t handled = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { handled = 1; };
  ::sigaction(SIGUSR1, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  const int result = ::sigsuspend(&none);
  return result == -1 && errno == EINTR && handled == 1 ? 0 : 1;
}

/// A handler that runs must still be seen as EINTR by epoll_wait, restarted or not.
int BlockInEpollWaitUntilAHandlerRuns(const Scene&) {
  static volatile sig_atomic_t handled = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { handled = 1; };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR1, &action, nullptr);
  const sigset_t set = Usr1();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  epoll_event event{};
  const int result = ::epoll_wait(::epoll_create1(0), &event, 1, -1);
  return result == -1 && errno == EINTR && handled == 1 ? 0 : 1;
}

int SleepFor(const timespec& duration) {
  timespec before{};
  timespec after{};
  ::clock_gettime(CLOCK_MONOTONIC, &before);
  const int result = static_cast<int>(::syscall(SYS_nanosleep, &duration, nullptr));
  ::clock_gettime(CLOCK_MONOTONIC, &after);
  const int64_t slept_ns =
      int64_t{after.tv_sec - before.tv_sec} * 1'000'000'000 + (after.tv_nsec - before.tv_nsec);
  const int64_t wanted_ns = int64_t{duration.tv_sec} * 1'000'000'000 + duration.tv_nsec;
  return result == 0 && slept_ns >= wanted_ns ? 0 : 1;  // not cut short
}

int BlockInNanosleep(const Scene&) { return SleepFor({.tv_sec = 2, .tv_nsec = 0}); }

struct Case {
  const char* name;
  long call;
  Block block;
  Release release;

  friend void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }
};

class InjectionIntoABlockedThread : public ::testing::TestWithParam<Case> {
 protected:
  InjectionIntoABlockedThread() {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    read_end_.Reset(ends[0]);
    write_end_.Reset(ends[1]);
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) std::abort();
    near_.Reset(ends[0]);
    far_.Reset(ends[1]);
  }
  Scene scene() { return {read_end_.get(), write_end_.get(), near_.get(), far_.get(), &*shared_}; }
  int RunVictim() {
    const sigset_t set = Usr1();
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    return GetParam().block(scene());
  }

 private:
  SharedWithChild<Shared> shared_;
  UniqueFd read_end_, write_end_, near_, far_;
};

INSTANTIATE_TEST_SUITE_P(
    In, InjectionIntoABlockedThread,
    ::testing::Values(Case{"Ppoll", SYS_ppoll, BlockInPpoll, WriteByte},
                      Case{"PollWithTimeout", SYS_poll, BlockInPollWithTimeout, WriteByte},
                      Case{"Select", SYS_pselect6, BlockInSelect, WriteByte},
                      Case{"Read", SYS_read, BlockInRead, WriteByte},
                      Case{"EpollWait", SYS_epoll_wait, BlockInEpollWait, WriteByte},
                      Case{"Futex", SYS_futex, BlockInFutex, WakeFutex},
                      Case{"FutexWithTimeout", SYS_futex, BlockInFutexWithTimeout, WakeFutex},
                      Case{"Sigtimedwait", SYS_rt_sigtimedwait, BlockInSigtimedwait, RaiseUsr1},
                      Case{"Sigsuspend", SYS_rt_sigsuspend, BlockInSigsuspend, RaiseUsr1},
                      Case{"EpollWaitUntilAHandlerRuns", SYS_epoll_wait,
                           BlockInEpollWaitUntilAHandlerRuns, RaiseUsr1},
                      Case{"ReceiveWithTimeout", SYS_recvfrom, BlockInReceiveWithTimeout, SendByte},
                      Case{"Nanosleep", SYS_nanosleep, BlockInNanosleep, WaitForTheTimeout}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(InjectionIntoABlockedThread, LeavesTheBlockedCallsResultUnharmed) {
  Victim victim([this] { return RunVictim(); });
  ASSERT_TRUE(victim.AwaitAsleepIn(GetParam().call));
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  for (int i = 0; i < kInjections; ++i) {
    const auto result = InjectCall(target, {.number = SYS_getpid});
    ASSERT_TRUE(result.has_value()) << result.error().message;
    EXPECT_EQ(*result, victim.pid());
  }
  AttachedUserfault attached = Require(AttachUserfault(target));
  EXPECT_EQ(victim.CountUserfaultFds(), 1);
  Require(CloseRemoteFd(target, attached.remote_fd));
  EXPECT_EQ(victim.CountUserfaultFds(), 0);
  GetParam().release(scene(), victim.pid());
  EXPECT_EQ(victim.ExitStatus(), 0);
}

}  // namespace
}  // namespace faultline::testing
