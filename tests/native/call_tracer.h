// Counts the system calls of one thread of this process, by their numbers, as strace does: a child
// process follows the thread by ptrace(2).
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "perf/rig/child.h"

namespace faultline::test {

struct CallCounts {
  static constexpr size_t kNumbers = 512;
  std::array<uint64_t, kNumbers> calls{};  ///< that have returned something else than EAGAIN
  std::array<uint64_t, kNumbers> vain{};   ///< that have returned EAGAIN

  [[nodiscard]] uint64_t all() const;
  [[nodiscard]] uint64_t Of(long number) const {
    const auto index = static_cast<size_t>(number);
    return calls.at(index) + vain.at(index);
  }
  [[nodiscard]] uint64_t all_in_vain() const;
  /// What is not among `numbers`, for a message; empty: nothing.
  [[nodiscard]] std::string OthersThan(std::initializer_list<long> numbers) const;
};

class CallTracer {
 public:
  /// Follows from here on. REQUIRES: may trace (root).
  explicit CallTracer(pid_t thread);
  /// No longer. May be called once.
  CallCounts Stop();

 private:
  struct Shared {
    CallCounts counts;
    std::atomic<bool> follows{false};
  };
  static void Follow(pid_t thread, Shared& shared);

  rig::SharedArray<Shared> shared_{1};
  std::unique_ptr<rig::Child> child_;
};

/// A thread of this process whose name begins so; 0: there is none.
pid_t ThreadNamed(std::string_view beginning);

}  // namespace faultline::test
