// What the two threads of a demand fetch do beside their work: a native guest faults page after
// page, one thread, the pusher idle. Root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>

#include <mutex>
#include <new>
#include <optional>
#include <thread>

#include "perf/rig/native_move.h"
#include "tests/native/call_tracer.h"
#include "tests/native/counting_hooks.h"

namespace faultline::test {
namespace {

constexpr uint64_t kTouches = 4096;
constexpr uint64_t kGuestBytes = uint64_t{64} << 20;

class FaultPathTest : public testing::Test {
 protected:
  FaultPathTest() {
    spdlog::set_level(spdlog::level::warn);
    plan_.guest = {.bytes = kGuestBytes, .touches = kTouches};
    plan_.bulk_streams = 0;
    plan_.one_process = true;
  }
  /// Every touch is a fault of its own: all pages are absent and touched once.
  void Move() {
    const rig::MoveResult result = rig::MoveNativeGuest(ram_, plan_);
    EXPECT_EQ(result.wrong, 0U);
    faults_ = result.summary["faults"]["from_urgent"].get<uint64_t>();
    ASSERT_EQ(faults_, kTouches);
  }
  [[nodiscard]] double PerFault(uint64_t calls) const {
    return static_cast<double>(calls) / static_cast<double>(faults_);
  }
  /// On one processor nobody looks for what is to come: each call is counted, and there for a
  /// reason.
  void TraceOnOneProcessor() {
    cpu_set_t all;
    ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(::sched_getcpu()), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);  // whatever is started inherits it
    Trace();
    ASSERT_EQ(::sched_setaffinity(0, sizeof all, &all), 0);
  }
  void Trace() {
    plan_.before = [this] {
      destination_.emplace(ThreadNamed("fl-fault"));
      source_.emplace(ThreadNamed("fl-serve-fault"));
    };
    plan_.after = [this] {
      destination_calls_ = destination_->Stop();
      source_calls_ = source_->Stop();
    };
    Move();
  }

  const rig::SourceRam ram_{kGuestBytes, false};
  rig::MovePlan plan_;
  uint64_t faults_ = 0;
  std::optional<CallTracer> destination_;
  std::optional<CallTracer> source_;
  CallCounts destination_calls_;
  CallCounts source_calls_;
};

TEST(CountingHooks, SeeAnAllocationAndALockOfACountedThread) {
  StartCounting();
  std::thread([] {
    pthread_setname_np(pthread_self(), "fl-fault-test");
    std::mutex mutex;
    const std::lock_guard lock(mutex);
    void* const memory = ::operator new(16);
    asm volatile("" : : "r"(memory) : "memory");  // or the compiler leaves both out
    ::operator delete(memory);
  }).join();
  StopCounting();
  EXPECT_EQ(CountsOf(kDestinationThread).allocations.load(), 1U);
  EXPECT_EQ(CountsOf(kDestinationThread).locks.load(), 1U);
}

TEST_F(FaultPathTest, NeitherSideAllocatesOrLocks) {
  plan_.before = StartCounting;
  plan_.after = StopCounting;
  Move();
  EXPECT_EQ(CountsOf(kDestinationThread).allocations.load(), 0U);
  EXPECT_EQ(CountsOf(kDestinationThread).locks.load(), 0U);
  EXPECT_EQ(CountsOf(kSourceThread).allocations.load(), 0U);
  EXPECT_EQ(CountsOf(kSourceThread).locks.load(), 0U);
}

// The waits for the fault and for the reply, the fault read, the request sent, the page's bytes
// received behind the reply's header, CONTINUE.
TEST_F(FaultPathTest, TheDestinationMakesSixCallsForAFault) {
  TraceOnOneProcessor();
  EXPECT_THAT(destination_calls_.OthersThan(
                  {SYS_io_uring_enter, SYS_read, SYS_sendto, SYS_recvmsg, SYS_ioctl,
                   // where the guest's thread runs, once a millisecond; whether it lives, every 20
                   SYS_openat, SYS_close, SYS_pread64, SYS_sched_getaffinity, SYS_sched_setaffinity,
                   SYS_poll}),
              testing::IsEmpty());
  uint64_t calls = 0;
  for (const long call : {SYS_io_uring_enter, SYS_read, SYS_sendto, SYS_recvmsg, SYS_ioctl}) {
    calls += destination_calls_.Of(call);
  }
  EXPECT_LE(PerFault(calls), 6.1);
  EXPECT_GE(PerFault(calls), 4.0) << "the tracer saw too little";
}

// The request received, the page read and sent; where packets are processed is asked every 16
// receives.
TEST_F(FaultPathTest, TheSourceMakesThreeCallsForAFault) {
  TraceOnOneProcessor();
  EXPECT_THAT(source_calls_.OthersThan(
                  {SYS_recvfrom, SYS_pread64, SYS_sendmsg, SYS_getsockopt, SYS_sched_setaffinity}),
              testing::IsEmpty());
  EXPECT_LE(PerFault(source_calls_.all()), 3.1);
  EXPECT_GE(PerFault(source_calls_.all()), 2.9) << "the tracer saw too little";
}

// A look that finds nothing is a call in vain; what they do is as much as without. Traced, either
// end often waits too long to look, and the source changes its core, or asks who had it.
TEST_F(FaultPathTest, WhereTheyLookNeitherMakesMoreCallsThatFindSomething) {
  Trace();
  if (std::thread::hardware_concurrency() > 1) {
    EXPECT_GT(source_calls_.vain[SYS_recvfrom], 0U) << "the source never looked";
    EXPECT_GT(destination_calls_.vain[SYS_recvmsg], 0U) << "the destination never looked";
  }
  EXPECT_LE(PerFault(destination_calls_.all()), 6.5);
  EXPECT_GE(PerFault(destination_calls_.all()), 4.0) << "the tracer saw too little";
  EXPECT_LE(PerFault(source_calls_.all()), 3.2);
  EXPECT_GE(PerFault(source_calls_.all()), 2.9) << "the tracer saw too little";
  EXPECT_THAT(source_calls_.OthersThan({SYS_recvfrom, SYS_pread64, SYS_sendmsg, SYS_getsockopt,
                                        SYS_sched_setaffinity, SYS_getrusage}),
              testing::IsEmpty());
}

}  // namespace
}  // namespace faultline::test
