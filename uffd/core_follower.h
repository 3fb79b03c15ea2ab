// Keeps the thread that reads faults on the core where the guest's thread has just gone to sleep.
//
// There the core is free at that moment, the page's way back to the guest is in its caches, and
// nobody has to be woken across cores, which costs more than the rest of a fault: measured 12.8 µs
// a fault on the same core, 91 on another one.
//
// Only while one guest thread does nearly all the faulting, or all of it from the guest's first
// instant on. With several, a loop tied to the core of one would wait there for another that runs:
// then it goes where the kernel puts it. A hint: where the thread or its core cannot be found,
// nothing changes.
//
// Source: userfaultfd(2), UFFD_FEATURE_THREAD_ID; proc(5), /proc/PID/task/TID/stat;
// sched_setaffinity(2).
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/core/fault_cores.h"
#include "engine/core/units.h"
#include "uffd/unique_fd.h"

namespace faultline {

/// One thread: the one that follows. Allocates nothing after the construction. A Follow() after
/// each few NoteFault().
class CoreFollower {
 public:
  /// Of faults of process `pid`. Looks up cores at most this often: it costs some 6 µs.
  static constexpr Nanos kLookEvery = std::chrono::milliseconds(1);

  /// Where it stays it says in `slot` of `cores`, which outlives it; null: nobody wants to know.
  explicit CoreFollower(int pid, FaultCores* cores = nullptr, size_t slot = 0)
      : pid_(pid), cores_(cores), slot_(slot) {}
  CoreFollower(const CoreFollower&) = delete;
  CoreFollower& operator=(const CoreFollower&) = delete;

  /// `thread` (0: unknown) has faulted.
  void NoteFault(int32_t thread);
  /// Who has faulted until now says nothing about who will: the guest begins to run. Any thread.
  void BeginAnew() { begins_anew_.store(true, std::memory_order_relaxed); }
  /// Moves, if those who faulted have. Better not while one of them waits for us.
  void Follow();
  /// Where the calling thread is kept; -1: anywhere.
  [[nodiscard]] int core() const { return core_; }

 private:
  static constexpr int kScoreMax = 64;
  static constexpr int kScoreToFollow = 16;  ///< so many faults more than all others together …
  static constexpr int kScoreAlone = 4;      ///< … or so many while there is no other
  static constexpr int kOtherCosts = 3;      ///< a fault of another thread outweighs so many

  bool Leads(int32_t thread);
  void Look();
  [[nodiscard]] int CoreOfLeader();
  void StayOn(int core);
  void GoAnywhere();
  void Say(int core);

  const int pid_;
  FaultCores* const cores_;
  const size_t slot_;
  int32_t leader_ = 0;
  int score_ = 0;
  bool alone_ = true;  ///< the leader is the only one so far
  std::atomic<bool> begins_anew_{false};
  bool leads_ = false;  ///< the thread that faulted last
  Nanos next_look_{};
  int32_t stat_of_ = 0;  ///< whose stat file is open
  UniqueFd stat_;
  int core_ = -1;
  cpu_set_t allowed_{};  ///< where the thread may be, as it was before it followed
};

/// The core a thread ran on last, out of its stat file; -1 if the text is not one.
[[nodiscard]] int CoreInStat(std::string_view stat);

}  // namespace faultline
