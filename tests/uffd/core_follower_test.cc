// The fault thread stays on the core of the guest's thread that faults, if there is one such.
#include "uffd/core_follower.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <sstream>
#include <thread>
#include <vector>

#include "tests/tcp/cores.h"

namespace faultline::testing {
namespace {

using test::AllowedCores;
using test::OnAThreadOfItsOwn;

constexpr int kEnoughFaults = 100;

std::string StatOf(int thread) {
  std::ostringstream text;
  text << std::ifstream("/proc/self/task/" + std::to_string(thread) + "/stat").rdbuf();
  return text.str();
}

/// A thread of this process that sleeps on a core of its own choice until it is destroyed.
class Sleeper {
 public:
  Sleeper() {
    std::promise<int> said;
    std::future<int> tid = said.get_future();
    thread_ = std::thread([&said, ended = ended_.get_future()]() mutable {
      said.set_value(static_cast<int>(::syscall(SYS_gettid)));
      ended.wait();
    });
    tid_ = tid.get();
  }
  ~Sleeper() {
    ended_.set_value();
    thread_.join();
  }
  [[nodiscard]] int tid() const { return tid_; }

 private:
  std::promise<void> ended_;
  std::thread thread_;
  int tid_ = 0;
};

/// As the fault loop does: `thread` has faulted, and its page has been asked for.
void Answer(CoreFollower& follower, int32_t thread) {
  follower.NoteFault(thread);
  follower.Follow();
}

TEST(CoreFollower, TheCoreIsTheThirtyNinthFieldWhateverTheNameHolds) {
  std::string stat = "17 (a ) b) S";
  for (int field = 4; field <= 52; ++field) stat += " " + std::to_string(field * 10);
  EXPECT_EQ(CoreInStat(stat), 390);
  EXPECT_EQ(CoreInStat("17 (short) S 1 2"), -1);
  EXPECT_EQ(CoreInStat(""), -1);
}

TEST(CoreFollower, StaysOnTheCoreOfTheOnlyThreadThatFaults) {
  OnAThreadOfItsOwn([] {
    const Sleeper sleeper;
    CoreFollower follower(::getpid());
    for (int i = 0; i < kEnoughFaults; ++i) Answer(follower, sleeper.tid());
    EXPECT_EQ(follower.core(), CoreInStat(StatOf(sleeper.tid())));
    EXPECT_EQ(AllowedCores().size(), 1U);
    EXPECT_EQ(::sched_getcpu(), follower.core());
  });
}

TEST(CoreFollower, WhoFaultsAloneIsFollowedSoonAndWhoDoesNotLater) {
  OnAThreadOfItsOwn([] {
    const Sleeper first;
    const Sleeper second;
    CoreFollower follower(::getpid());
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(follower.core(), -1);
      Answer(follower, first.tid());
    }
    EXPECT_NE(follower.core(), -1);
    for (int i = 0; i < 10; ++i) Answer(follower, second.tid());
    EXPECT_EQ(follower.core(), -1);
  });
}

TEST(CoreFollower, WhenTheGuestBeginsToRunWhoFaultedBeforeIsForgotten) {
  OnAThreadOfItsOwn([] {
    const Sleeper loads_devices;
    const Sleeper runs;
    CoreFollower follower(::getpid());
    for (int i = 0; i < kEnoughFaults; ++i) Answer(follower, loads_devices.tid());
    follower.BeginAnew();
    Answer(follower, runs.tid());
    EXPECT_EQ(follower.core(), -1);
    for (int i = 0; i < 3; ++i) follower.NoteFault(runs.tid());
    std::this_thread::sleep_for(CoreFollower::kLookEvery);
    follower.Follow();
    EXPECT_EQ(follower.core(), CoreInStat(StatOf(runs.tid())));
  });
}

TEST(CoreFollower, GoesAnywhereAgainWhenSeveralThreadsFault) {
  OnAThreadOfItsOwn([] {
    const std::vector<int> allowed = AllowedCores();
    const Sleeper first;
    const Sleeper second;
    CoreFollower follower(::getpid());
    for (int i = 0; i < kEnoughFaults; ++i) Answer(follower, first.tid());
    for (int i = 0; i < kEnoughFaults; ++i) {
      Answer(follower, i % 2 == 0 ? first.tid() : second.tid());
    }
    EXPECT_EQ(follower.core(), -1);
    EXPECT_EQ(AllowedCores(), allowed);
  });
}

TEST(CoreFollower, SaysWhereItIs) {
  OnAThreadOfItsOwn([] {
    constexpr size_t kSlot = 2;
    FaultCores cores;
    const Sleeper first;
    const Sleeper second;
    CoreFollower follower(::getpid(), &cores, kSlot);
    EXPECT_EQ(cores.version(), 0U);
    for (int i = 0; i < kEnoughFaults; ++i) Answer(follower, first.tid());
    ASSERT_NE(follower.core(), FaultCores::kAnywhere);
    EXPECT_TRUE(cores.Has(follower.core()));
    const int core = follower.core();
    const uint64_t before = cores.version();
    for (int i = 0; i < kEnoughFaults; ++i) {
      Answer(follower, i % 2 == 0 ? first.tid() : second.tid());
    }
    EXPECT_FALSE(cores.Has(core));
    EXPECT_NE(cores.version(), before);
  });
}

TEST(CoreFollower, AThreadThatIsNotThereMovesNobody) {
  OnAThreadOfItsOwn([] {
    const std::vector<int> allowed = AllowedCores();
    CoreFollower follower(::getpid());
    for (int i = 0; i < kEnoughFaults; ++i) Answer(follower, 1);
    for (int i = 0; i < kEnoughFaults; ++i) Answer(follower, 0);
    EXPECT_EQ(follower.core(), -1);
    EXPECT_EQ(AllowedCores(), allowed);
  });
}

}  // namespace
}  // namespace faultline::testing
