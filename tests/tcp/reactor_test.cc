// What every Reactor promises, on every backend.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <thread>

#include "engine/tcp/deadline.h"
#include "engine/tcp/tcp_reactor.h"
#include "engine/tcp/unique_fd.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ReactorTest : public testing::TestWithParam<IoPreference> {
 protected:
  ReactorTest() : reactor_(*MakeReactor(GetParam())) {}
  static void Ring(const tcp::UniqueFd& fd) {
    const uint64_t one = 1;
    ASSERT_EQ(::write(fd.get(), &one, sizeof one), 8);
  }
  static void Drain(const tcp::UniqueFd& fd) {
    uint64_t count = 0;
    ASSERT_EQ(::read(fd.get(), &count, sizeof count), 8);
  }

  std::unique_ptr<TcpReactor> reactor_;
  tcp::UniqueFd first_{::eventfd(0, EFD_NONBLOCK)};
  tcp::UniqueFd second_{::eventfd(0, EFD_NONBLOCK)};
};
INSTANTIATE_TEST_SUITE_P(Backends, ReactorTest,
                         testing::Values(IoPreference::kUring, IoPreference::kEpoll));

TEST_P(ReactorTest, IsWhatWasAskedFor) {
  const bool uring = GetParam() == IoPreference::kUring;
  EXPECT_EQ(reactor_->backend(), uring ? IoBackend::kUring : IoBackend::kEpoll);
  EXPECT_TRUE(MakeReactor().has_value());
}

TEST_P(ReactorTest, NothingReadyIsAnEmptySetAfterTheTimeout) {
  reactor_->Watch(first_.get(), ReadyToken::kFaults);
  const Nanos before = tcp::MonotonicNow();
  EXPECT_TRUE(reactor_->Wait(milliseconds(20)).empty());
  EXPECT_GE(tcp::MonotonicNow() - before, milliseconds(19));
  EXPECT_TRUE(reactor_->Wait(Nanos::zero()).empty());
}

TEST_P(ReactorTest, AWaitEndsInTimeBehindALongerOneThatWasCutShort) {
  reactor_->Watch(first_.get(), ReadyToken::kMailbox);
  Ring(first_);
  EXPECT_TRUE(reactor_->Wait(seconds(60)).Has(ReadyToken::kMailbox));
  Drain(first_);
  reactor_->Wait(Nanos::zero());  // may report once more what has just been read
  const Nanos before = tcp::MonotonicNow();
  for (int wait = 0; wait < 3; ++wait) {
    EXPECT_TRUE(reactor_->Wait(milliseconds(10)).empty());
  }
  EXPECT_GE(tcp::MonotonicNow() - before, milliseconds(29));
  EXPECT_LT(tcp::MonotonicNow() - before, seconds(5));
}

TEST_P(ReactorTest, AReadableDescriptorIsReportedUntilItIsRead) {
  reactor_->Watch(first_.get(), ReadyToken::kFaults);
  Ring(first_);
  for (int round = 0; round < 5; ++round) {
    EXPECT_TRUE(reactor_->Wait(seconds(5)).Has(ReadyToken::kFaults)) << round;
  }
  Drain(first_);
  reactor_->Wait(Nanos::zero());  // may report once more what has just been read
  EXPECT_TRUE(reactor_->Wait(milliseconds(5)).empty());
  Ring(first_);
  EXPECT_TRUE(reactor_->Wait(seconds(5)).Has(ReadyToken::kFaults));
}

TEST_P(ReactorTest, SeveralDescriptorsAreReportedEachByItsToken) {
  reactor_->Watch(first_.get(), ReadyToken::kMailbox);
  reactor_->Watch(second_.get(), ReadyToken::kFaults);
  Ring(second_);
  const ReadySet one = reactor_->Wait(seconds(5));
  EXPECT_TRUE(one.Has(ReadyToken::kFaults));
  EXPECT_FALSE(one.Has(ReadyToken::kMailbox));
}

TEST_P(ReactorTest, AWriteOnAnotherThreadEndsAWait) {
  reactor_->Watch(first_.get(), ReadyToken::kMailbox);
  std::thread other([&] {
    std::this_thread::sleep_for(milliseconds(20));
    Ring(first_);
  });
  const Nanos before = tcp::MonotonicNow();
  EXPECT_TRUE(reactor_->Wait(seconds(10)).Has(ReadyToken::kMailbox));
  EXPECT_LT(tcp::MonotonicNow() - before, seconds(5));
  other.join();
}

TEST_P(ReactorTest, AfterUnwatchNothingIsReportedAndTheFileIsLetGo) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  tcp::UniqueFd reader(ends[0]);
  const tcp::UniqueFd writer(ends[1]);
  reactor_->Watch(reader.get(), ReadyToken::kFaults);
  EXPECT_TRUE(reactor_->Wait(milliseconds(1)).empty());
  reactor_->Unwatch(ReadyToken::kFaults);
  reader.Reset();
  // With the last reader gone, the pipe is broken: a forgotten poll would keep it whole.
  ::signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(::write(writer.get(), "x", 1), -1);
  EXPECT_TRUE(reactor_->Wait(milliseconds(1)).empty());
}

TEST_P(ReactorTest, ATokenCanBeWatchedAgainWithAnotherDescriptor) {
  reactor_->Watch(first_.get(), ReadyToken::kFaults);
  reactor_->Wait(Nanos::zero());
  Ring(first_);
  reactor_->Unwatch(ReadyToken::kFaults);
  reactor_->Watch(second_.get(), ReadyToken::kFaults);
  EXPECT_TRUE(reactor_->Wait(milliseconds(5)).empty());
  Ring(second_);
  EXPECT_TRUE(reactor_->Wait(seconds(5)).Has(ReadyToken::kFaults));
}

TEST_P(ReactorTest, MadeHereItServesTheThreadThatWaits) {
  reactor_->Watch(first_.get(), ReadyToken::kFaults);
  Ring(first_);
  std::thread user([&] { EXPECT_TRUE(reactor_->Wait(seconds(5)).Has(ReadyToken::kFaults)); });
  user.join();
}

/// From here on this thread, and no other, gets EPERM from io_uring_setup: a site that denies it.
void DenyUring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{4, program};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

TEST(MakeReactorTest, WhereIoUringIsDeniedTheBestIsEpollAndAskingForItSaysWhy) {
  std::thread denied([] {
    DenyUring();
    const auto best = MakeReactor(IoPreference::kBest);
    ASSERT_TRUE(best.has_value());
    EXPECT_EQ((*best)->backend(), IoBackend::kEpoll);
    const auto uring = MakeReactor(IoPreference::kUring);
    ASSERT_FALSE(uring.has_value());
    EXPECT_NE(uring.error().message.find("io_uring_disabled"), std::string::npos);
  });
  denied.join();
}

}  // namespace
}  // namespace faultline::test
