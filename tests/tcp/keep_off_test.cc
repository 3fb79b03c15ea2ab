// Whoever moves pages that nobody waits for leaves the cores on which demand fetches are served.
#include "engine/tcp/keep_off.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <vector>

#include "tests/tcp/cores.h"

namespace faultline::test {
namespace {

TEST(KeepOff, LeavesTheCoresOfFaultsAndComesBack) {
  OnAThreadOfItsOwn([] {
    const std::vector<int> all = AllowedCores();
    if (all.size() < 2) GTEST_SKIP() << "takes two processors";
    FaultCores cores;
    KeepOff keep_off(cores);
    cores.Set(0, all.front());
    EXPECT_EQ(AllowedCores(), all) << "before it looks";
    keep_off.Look();
    EXPECT_EQ(AllowedCores(), Without(all, all.front()));
    EXPECT_NE(::sched_getcpu(), all.front());
    cores.Set(0, all.back());
    keep_off.Look();
    EXPECT_EQ(AllowedCores(), Without(all, all.back()));
    cores.Set(0, FaultCores::kAnywhere);
    keep_off.Look();
    EXPECT_EQ(AllowedCores(), all);
  });
}

TEST(KeepOff, GoesAnywhereWhereNoOtherCoreIsLeft) {
  OnAThreadOfItsOwn([] {
    const std::vector<int> all = AllowedCores();
    if (all.size() > kShardsMax) GTEST_SKIP() << "more processors than fault threads";
    FaultCores cores;
    KeepOff keep_off(cores);
    for (size_t slot = 0; slot < all.size(); ++slot) cores.Set(slot, all[slot]);
    keep_off.Look();
    EXPECT_EQ(AllowedCores(), all);
  });
}

TEST(KeepOff, NeverGoesWhereItWasNotAllowed) {
  OnAThreadOfItsOwn([] {
    const std::vector<int> all = AllowedCores();
    if (all.size() < 2) GTEST_SKIP() << "takes two processors";
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(all.front()), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    FaultCores cores;
    KeepOff keep_off(cores);
    for (const int core : {all.front(), all.back(), FaultCores::kAnywhere}) {
      cores.Set(0, core);
      keep_off.Look();
      EXPECT_EQ(AllowedCores(), std::vector<int>{all.front()});
    }
  });
}

}  // namespace
}  // namespace faultline::test
