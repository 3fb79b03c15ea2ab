// Where a thread may run, for tests of what changes that.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>
#include <vector>

namespace faultline::test {

inline std::vector<int> AllowedCores() {
  cpu_set_t set;
  EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<size_t>(core), &set)) cores.push_back(core);
  }
  return cores;
}

inline std::vector<int> Without(std::vector<int> cores, int core) {
  std::erase(cores, core);
  return cores;
}

/// In a thread of its own: what it does to its affinity goes with it.
template <class Test>
void OnAThreadOfItsOwn(Test test) {
  std::thread(test).join();
}

}  // namespace faultline::test
