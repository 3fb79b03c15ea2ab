// The injector against processes in every state that is not a plain blocked call.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
#include "uffd/attach.h"
#include "uffd/ptrace_injector.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;

struct Watch {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> laps{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<int> signals{0};
};

/// Integer and floating-point registers in use all the time; every lap must come out the same.
void CheckRegistersForever(Watch& watch) {
  while (!watch.stop) {
    uint64_t hash = 0x9E3779B97F4A7C15;
    double sum = 0;
    for (uint64_t i = 1; i <= 4000; ++i) {
      hash = (hash ^ i) * 0xBF58476D1CE4E5B9;
      sum += static_cast<double>(i) * 0.5;
    }
    static const uint64_t expected = hash;
    if (hash != expected || sum != 4'001'000.0) ++watch.errors;
    ++watch.laps;
  }
}

class Injection : public ::testing::Test {
 protected:
  SharedWithChild<Watch> watch_;

  void ExpectCallsWork(Victim& victim, int times) {
    const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
    for (int i = 0; i < times; ++i) {
      const auto result = InjectCall(target, {.number = SYS_getpid});
      ASSERT_TRUE(result.has_value()) << result.error().message << "; " << victim.ExitStatus();
      ASSERT_EQ(*result, victim.pid());
    }
  }
  void ExpectProgress() {
    const uint64_t before = watch_->laps;
    EXPECT_TRUE(Eventually([&] { return watch_->laps > before; }));
  }
};

TEST_F(Injection, LeavesTheRegistersOfARunningThreadUnharmed) {
  Victim victim([this] {
    CheckRegistersForever(*watch_);
    return 0;
  });
  ExpectProgress();
  ExpectCallsWork(victim, 80);
  ExpectProgress();
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 0);
  EXPECT_EQ(watch_->errors, 0U);
}

TEST_F(Injection, PassesArgumentsAndNegativeResults) {
  Victim victim([] { return ::pause(); });
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  EXPECT_EQ(Require(InjectCall(target, {.number = SYS_close, .arguments = {9999}})), -EBADF);
  EXPECT_EQ(Require(InjectCall(target, {.number = SYS_dup2, .arguments = {1, 77}})), 77);
  EXPECT_EQ(Require(InjectCall(target, {.number = SYS_fcntl, .arguments = {77, F_GETFD}})), 0);
}

TEST_F(Injection, LosesNoSignalThatArrivesMeanwhile) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer itself keeps one pending signal of a kind and drops the rest";
#endif
  constexpr int kSignals = 2000;
  Victim victim([this] {
    static Watch* watch = &*watch_;
    struct sigaction action {};
    action.sa_handler = [](int) { ++watch->signals; };
    ::sigaction(SIGRTMIN, &action, nullptr);
    ++watch_->laps;
    CheckRegistersForever(*watch_);
    return 0;
  });
  ExpectProgress();
  std::thread sender([&] {
    for (int i = 0; i < kSignals; ++i) {
      while (::sigqueue(victim.pid(), SIGRTMIN, {}) != 0) ::usleep(100);
      ::usleep(50);
    }
  });
  ExpectCallsWork(victim, 100);
  sender.join();
  EXPECT_TRUE(Eventually([&] { return watch_->signals == kSignals; })) << watch_->signals;
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 0);
  EXPECT_EQ(watch_->errors, 0U);
}

TEST_F(Injection, LeavesAStoppedProcessStopped) {
  Victim victim([this] {
    CheckRegistersForever(*watch_);
    return 0;
  });
  ExpectProgress();
  victim.Signal(SIGSTOP);
  ASSERT_TRUE(victim.AwaitStatus("State", "T"));
  ExpectCallsWork(victim, 5);
  EXPECT_TRUE(victim.AwaitStatus("State", "T (stopped)"));
  const uint64_t laps = watch_->laps;
  ::usleep(50'000);
  EXPECT_EQ(watch_->laps, laps);
  victim.Signal(SIGCONT);
  ExpectProgress();
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 0);
}

TEST_F(Injection, SurvivesStopsAndContinuesThatArriveMeanwhile) {
  Victim victim([this] {
    CheckRegistersForever(*watch_);
    return 0;
  });
  ExpectProgress();
  std::atomic<bool> done{false};
  std::thread sender([&] {
    while (!done) {
      victim.Signal(SIGSTOP);
      ::usleep(300);
      victim.Signal(SIGCONT);
      ::usleep(300);
    }
  });
  ExpectCallsWork(victim, 100);
  done = true;
  sender.join();
  victim.Signal(SIGCONT);
  ExpectProgress();
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 0);
  EXPECT_EQ(watch_->errors, 0U);
}

TEST_F(Injection, StopsOnlyOneOfManyThreads) {
  Victim victim([this] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([] { ::pause(); });
    threads.emplace_back([this] { CheckRegistersForever(*watch_); });
    threads.back().join();
    ::_exit(0);
    return 0;
  });
  ExpectProgress();
  ExpectCallsWork(victim, 40);
  ExpectProgress();
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 0);
  EXPECT_EQ(watch_->errors, 0U);
}

TEST_F(Injection, RefusesAProcessWhoseMainThreadHasEndedAndLeavesItAlone) {
  Victim victim([this] {
    std::thread([this] {
      CheckRegistersForever(*watch_);
      ::_exit(0);
    }).detach();
    ::syscall(SYS_exit, 0);  // this thread only
    return 1;
  });
  ExpectProgress();
  ASSERT_TRUE(victim.AwaitStatus("State", "Z"));
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  const auto result = InjectCall(target, {.number = SYS_getpid});
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("main thread has ended"));
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 0);
}

TEST_F(Injection, WorksOnAProcessConfinedBySeccompAndLeavesItConfined) {
  Victim victim([this] {
    sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = 4, .filter = rules};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    for (; !watch_->stop; ++watch_->laps) ::usleep(1000);
    ::syscall(SYS_userfaultfd, 0);  // still forbidden: ends here
    return 0;
  });
  ExpectProgress();
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  const auto attached = AttachUserfault(target);
  ASSERT_TRUE(attached.has_value()) << attached.error().message;
  EXPECT_EQ(victim.StatusField("Seccomp"), "2");
  watch_->stop = true;
  EXPECT_EQ(victim.ExitStatus(), 1000 + SIGSYS);
}

TEST_F(Injection, SaysThatADebuggerIsInTheWay) {
  Victim victim([] { return ::pause(); });
  // Every thread, as a debugger does: a sanitizer may have started one of its own.
  const std::string threads = "/proc/" + std::to_string(victim.pid()) + "/task";
  std::vector<int> seized;
  for (const auto& thread : std::filesystem::directory_iterator(threads)) {
    seized.push_back(std::stoi(thread.path().filename()));
    ASSERT_EQ(::ptrace(PTRACE_SEIZE, seized.back(), nullptr, nullptr), 0);
  }
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  const auto result = InjectCall(target, {.number = SYS_getpid});
  EXPECT_TRUE(!result.has_value() && result.error().message.find("debugger") != std::string::npos);
  // Its end is not told before we have taken note of the end of every thread that we traced.
  victim.Signal(SIGKILL);
  for (const int thread : seized) {
    if (thread != victim.pid()) ::waitpid(thread, nullptr, __WALL);
  }
}

TEST_F(Injection, SaysThatTheProcessHasEnded) {
  Victim victim([] { return ::pause(); });
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  victim.Signal(SIGKILL);
  EXPECT_EQ(victim.ExitStatus(), 1000 + SIGKILL);
  EXPECT_FALSE(target.IsAlive());
  EXPECT_FALSE(InjectCall(target, {.number = SYS_getpid}).has_value());
  EXPECT_FALSE(TargetProcess::Open(victim.pid()).has_value());
}

TEST_F(Injection, LeavesNoProcessesBehind) {
  Victim victim([] { return ::pause(); });
  ExpectCallsWork(victim, 10);
  EXPECT_TRUE(victim.AwaitStatus("TracerPid", "0"));
  victim.Signal(SIGKILL);
  EXPECT_EQ(victim.ExitStatus(), 1000 + SIGKILL);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // no child of ours is left, dead or alive
}

TEST_F(Injection, WorksForAProgramThatIgnoresSigchld) {
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGCHLD, &ignore, &before);
  Victim victim([] { return ::pause(); });
  ExpectCallsWork(victim, 3);
  ::sigaction(SIGCHLD, &before, nullptr);
}

}  // namespace
}  // namespace faultline::testing
