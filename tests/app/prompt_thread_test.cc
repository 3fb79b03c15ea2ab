// Urgent threads run promptly: with privileges by slice and weight, without by slice alone.
#include "engine/app/prompt_thread.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

namespace faultline::testing {
namespace {

constexpr uint64_t kShortest = 100'000;
constexpr long kNobody = 65534;

struct Seen {
  int32_t nice_before = 0;
  SchedulingAttributes after{};
};

SchedulingAttributes OfThisThread() {
  SchedulingAttributes attributes{};
  EXPECT_EQ(syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0), 0);
  return attributes;
}

/// On a thread of its own: what it gives up, it does not get back.
template <class First>
Seen RunPromptlyAfter(First first) {
  Seen seen;
  std::thread([&] {
    first();
    seen.nice_before = OfThisThread().nice;
    RunPromptly();
    seen.after = OfThisThread();
  }).join();
  return seen;
}

/// Only the calling thread's, as the kernel knows it; the library would change all.
bool BecomeNobody() { return syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0; }

/// Zero: this kernel has no slices.
uint64_t ShortestSlice() { return OfThisThread().runtime_ns != 0 ? kShortest : 0; }

TEST(PromptThread, HasTheShortestSliceAndNineTimesTheWeight) {
  if (geteuid() != 0) GTEST_SKIP() << "a larger weight takes CAP_SYS_NICE";
  const Seen seen = RunPromptlyAfter([] {});
  EXPECT_EQ(seen.after.nice, -10);
  EXPECT_EQ(seen.after.policy, uint32_t{SCHED_OTHER});
  EXPECT_EQ(seen.after.runtime_ns, ShortestSlice());
}

TEST(PromptThread, KeepsItsWeightWithoutThePrivilege) {
  if (geteuid() != 0) GTEST_SKIP() << "giving up privileges takes having them";
  const Seen seen = RunPromptlyAfter([] {
    ASSERT_EQ(setpriority(PRIO_PROCESS, 0, 5), 0);
    ASSERT_TRUE(BecomeNobody());
  });
  EXPECT_EQ(seen.nice_before, 5);
  EXPECT_EQ(seen.after.nice, 5);
  EXPECT_EQ(seen.after.runtime_ns, ShortestSlice());
}

}  // namespace
}  // namespace faultline::testing
