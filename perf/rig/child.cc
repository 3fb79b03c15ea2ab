#include "perf/rig/child.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace faultline::rig {
namespace {

double Seconds(const rusage& usage) {
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

ProcessCost MemoryOf(int pid) {
  const std::string who = pid == 0 ? "self" : std::to_string(pid);
  std::ifstream status("/proc/" + who + "/status");
  ProcessCost cost;
  for (std::string word; status >> word;) {
    if (word == "RssAnon:") status >> cost.anon_kib;
    if (word == "VmPTE:") status >> cost.page_tables_kib;
  }
  return cost;
}

double OwnCpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage);
}

Child::Child(const std::function<void()>& body) : pid_(::fork()) {
  FAULTLINE_CHECK(pid_ >= 0);
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  ::_exit(0);
}

double Child::Kill() {
  if (pid_ < 0) return cpu_s_;
  ::kill(pid_, SIGKILL);
  rusage usage{};
  ::wait4(pid_, nullptr, 0, &usage);
  pid_ = -1;
  return cpu_s_ = Seconds(usage);
}

void StayOnCpu(int cpu) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<size_t>(cpu), &only);
  FAULTLINE_CHECK(::sched_setaffinity(0, sizeof only, &only) == 0);
}

}  // namespace faultline::rig
