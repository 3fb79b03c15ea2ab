// A call injected into a thread that is inside a restartable sequence (rseq): the kernel forgets
// the sequence while the thread is at the injected instruction, so the injector has to abort it.
#include <gtest/gtest.h>
#include <linux/rseq.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
#include "uffd/ptrace_injector.h"

namespace faultline::testing {
namespace {

struct Watch {
  uint64_t aborts = 0;  ///< counted by the sequence's abort handler
  uint8_t stop = 0;
};

uint64_t Aborts(Watch& watch) { return __atomic_load_n(&watch.aborts, __ATOMIC_SEQ_CST); }

/// Spins inside one sequence until told to stop; every abort is counted and begins it anew.
int SpinInSequence(Watch& watch) {
  auto* area = reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) +
                                              __rseq_offset);
  asm volatile(
      ".pushsection __rseq_test_cs, \"aw\"\n"
      ".balign 32\n"
      "3: .long 0, 0\n"
      ".quad 1f, 2f - 1f, 4f\n"  // start, length, abort handler
      ".popsection\n"
      "0: leaq 3b(%%rip), %%rax\n"
      "movq %%rax, %[sequence]\n"
      "1: cmpb $0, %[stop]\n"
      "je 1b\n"
      "2: jmp 5f\n"
      ".long 0x53053053\n"  // RSEQ_SIG: the kernel wants it before an abort handler
      "4: lock incq %[aborts]\n"
      "jmp 0b\n"
      "5:\n"
      : [sequence] "=m"(area->rseq_cs), [aborts] "+m"(watch.aborts)
      : [stop] "m"(watch.stop)
      : "rax", "cc", "memory");
  area->rseq_cs = 0;
  return 0;
}

TEST(InjectionIntoARestartableSequence, AbortsItAsAPreemptionWould) {
  if (__rseq_size == 0) GTEST_SKIP() << "the C library has not registered rseq";
  SharedWithChild<Watch> watch;
  Victim victim([&] { return SpinInSequence(*watch); });
  ASSERT_TRUE(Eventually([&] { return Aborts(*watch) > 0; }));
  const TargetProcess target = Require(TargetProcess::Open(victim.pid()));
  for (int i = 0; i < 20; ++i) {
    const uint64_t before = Aborts(*watch);
    ASSERT_EQ(Require(InjectCall(target, {.number = SYS_getpid})), victim.pid());
    ASSERT_TRUE(Eventually([&] { return Aborts(*watch) > before; })) << "injection " << i;
  }
  __atomic_store_n(&watch->stop, uint8_t{1}, __ATOMIC_SEQ_CST);
  EXPECT_EQ(victim.ExitStatus(), 0);
}

}  // namespace
}  // namespace faultline::testing
