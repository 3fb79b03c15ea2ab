// A process of somebody else, held so that its number cannot come to mean another one.
#pragma once

#include <cstdint>

#include "engine/core/result.h"
#include "uffd/unique_fd.h"

namespace faultline {

/// Owns a pidfd. Threads: any.
class TargetProcess {
 public:
  static Result<TargetProcess> Open(int pid);

  [[nodiscard]] int pid() const { return pid_; }
  /// Readable when the process has ended.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  /// In clock ticks since boot: with the pid it names a process for ever (state files).
  [[nodiscard]] uint64_t start_time() const { return start_time_; }
  [[nodiscard]] bool IsAlive() const;

  /// A copy of its descriptor `remote_fd` (pidfd_getfd(2), Linux 5.6), close-on-exec.
  [[nodiscard]] Result<UniqueFd> CopyFd(int remote_fd) const;

 private:
  TargetProcess(int pid, UniqueFd pidfd, uint64_t start_time)
      : pid_(pid), pidfd_(std::move(pidfd)), start_time_(start_time) {}

  int pid_;
  UniqueFd pidfd_;
  uint64_t start_time_;
};

}  // namespace faultline
