// Whoever moves pages that nobody waits for leaves the cores on which demand fetches are served.
#include "engine/tcp/keep_off.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>
#include <vector>

#include "engine/tcp/incoming_core.h"
#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

std::vector<int> AllowedCores() {
  cpu_set_t set;
  EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<size_t>(core), &set)) cores.push_back(core);
  }
  return cores;
}

std::vector<int> Without(std::vector<int> cores, int core) {
  std::erase(cores, core);
  return cores;
}

/// In a thread of its own: what it does to its affinity goes with it.
template <class Test>
void OnAThreadOfItsOwn(Test test) {
  std::thread(test).join();
}

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

TEST(IncomingCore, SaysWhereItStays) {
  OnAThreadOfItsOwn([] {
    constexpr size_t kSlot = 3;
    constexpr int kEnough = 100;
    SocketPair sockets = Connect(Family::kV4);
    SendBytes(sockets.destination.get(), Bytes(1));
    ASSERT_EQ(ReadBytes(sockets.source.get(), 1).size(), 1U);
    FaultCores cores;
    tcp::IncomingCore stays(&cores, kSlot);
    EXPECT_EQ(cores.version(), 0U);
    for (int i = 0; i < kEnough; ++i) stays.NoteReceived(sockets.source.get());
    ASSERT_EQ(AllowedCores().size(), 1U);
    EXPECT_TRUE(cores.Has(AllowedCores().front()));
    EXPECT_NE(cores.version(), 0U);
  });
}

}  // namespace
}  // namespace faultline::test
