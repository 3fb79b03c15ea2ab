#include "uffd/target_threads.h"

#include <fmt/format.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace faultline {

namespace {

constexpr auto kRestartUnseen = std::to_array<long>({
    SYS_ppoll,
    SYS_futex,
    SYS_clock_nanosleep,
    SYS_epoll_pwait,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_pselect6,
    SYS_restart_syscall,
#ifdef SYS_poll  // older calls that newer architectures do not have
    SYS_poll,
    SYS_select,
    SYS_nanosleep,
    SYS_epoll_wait,
    SYS_pause,
#endif
});

enum class Preference : uint8_t { kAsleep = 0, kRunning, kBusy };

/// First word of /proc/PID/task/TID/syscall: a number, -1 (blocked, not in a call) or "running".
Preference PreferenceOf(const std::filesystem::path& task) {
  std::string word;
  std::ifstream(task / "syscall") >> word;
  long number = -1;
  const auto parsed = std::from_chars(word.data(), word.data() + word.size(), number);
  if (parsed.ec != std::errc() || number < 0) return Preference::kRunning;
  const bool unseen =
      std::find(kRestartUnseen.begin(), kRestartUnseen.end(), number) != kRestartUnseen.end();
  return unseen ? Preference::kAsleep : Preference::kBusy;
}

bool IsFiltered(int pid) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("Seccomp:", 0) == 0) return line.find_first_of("12") != std::string::npos;
  }
  return false;
}

struct Candidate {
  Preference preference;
  bool is_main;
  int thread;

  friend bool operator<(const Candidate& left, const Candidate& right) {
    if (left.preference != right.preference) return left.preference < right.preference;
    if (left.is_main != right.is_main) return left.is_main;
    return left.thread < right.thread;
  }
};

}  // namespace

Result<TargetThreads> TargetThreads::Of(int pid) {
  std::vector<Candidate> candidates;
  std::error_code error;
  const std::filesystem::path tasks = fmt::format("/proc/{}/task", pid);
  for (std::filesystem::directory_iterator it(tasks, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    int thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    candidates.push_back({PreferenceOf(it->path()), thread == pid, thread});
  }
  if (candidates.empty()) {
    return Fail(ErrorKind::kRefused, fmt::format("process {} has no living thread", pid));
  }
  std::sort(candidates.begin(), candidates.end());
  TargetThreads threads;
  for (const Candidate& candidate : candidates) threads.by_preference.push_back(candidate.thread);
  threads.filtered_by_seccomp = IsFiltered(pid);
  return threads;
}

}  // namespace faultline
