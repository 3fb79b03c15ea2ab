#include "uffd/core_follower.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

namespace faultline {

int CoreInStat(std::string_view stat) {
  // Field 39; the second one, in parentheses, may hold anything.
  constexpr int kFieldsBehindName = 39 - 2;
  size_t at = stat.rfind(')');
  for (int field = 0; field < kFieldsBehindName && at != std::string_view::npos; ++field) {
    at = stat.find(' ', at + 1);
  }
  if (at == std::string_view::npos) return -1;
  int core = -1;
  const std::from_chars_result parsed =
      std::from_chars(stat.data() + at + 1, stat.data() + stat.size(), core);
  return parsed.ec == std::errc() ? core : -1;
}

void CoreFollower::NoteFault(int32_t thread) {
  if (thread != 0) leads_ = Leads(thread);
}

void CoreFollower::Follow() {
  if (!leads_) return GoAnywhere();
  const Nanos now = std::chrono::steady_clock::now().time_since_epoch();
  if (now < next_look_) return;
  next_look_ = now + kLookEvery;
  Look();
}

/// Counts, and says whether `thread` has done nearly all the faulting lately.
bool CoreFollower::Leads(int32_t thread) {
  if (begins_anew_.load(std::memory_order_relaxed) && begins_anew_.exchange(false)) {
    leader_ = 0;
    score_ = 0;
  }
  if (thread == leader_) {
    score_ = std::min(score_ + 1, kScoreMax);
  } else {
    alone_ = leader_ == 0;
    score_ -= kOtherCosts;
    if (score_ <= 0) {
      leader_ = thread;
      score_ = 1;
    }
  }
  return score_ >= (alone_ ? kScoreAlone : kScoreToFollow);
}

void CoreFollower::Look() {
  const int core = CoreOfLeader();
  if (core < 0) return GoAnywhere();
  if (core != core_) StayOn(core);
}

int CoreFollower::CoreOfLeader() {
  if (stat_of_ != leader_) {
    std::array<char, 64> path{};
    std::snprintf(path.data(), path.size(), "/proc/%d/task/%d/stat", pid_, leader_);
    stat_.Reset(::open(path.data(), O_RDONLY | O_CLOEXEC));
    stat_of_ = leader_;
  }
  std::array<char, 1024> text{};
  const ssize_t got = stat_.valid() ? ::pread(stat_.get(), text.data(), text.size(), 0) : -1;
  return got <= 0 ? -1 : CoreInStat({text.data(), static_cast<size_t>(got)});
}

void CoreFollower::StayOn(int core) {
  if (core_ < 0 && ::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) return;
  const auto index = static_cast<size_t>(core);
  if (core >= CPU_SETSIZE || !CPU_ISSET(index, &allowed_)) return GoAnywhere();
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(index, &only);
  if (::sched_setaffinity(0, sizeof only, &only) == 0) Say(core);
}

void CoreFollower::Say(int core) {
  core_ = core;
  if (cores_ != nullptr) cores_->Set(slot_, core);
}

void CoreFollower::GoAnywhere() {
  if (core_ < 0) return;
  Say(FaultCores::kAnywhere);
  (void)::sched_setaffinity(0, sizeof allowed_, &allowed_);
}

}  // namespace faultline
