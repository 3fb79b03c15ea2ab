// A process for the injector to work on, and shared memory to watch it by.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <new>
#include <string>

namespace faultline::testing {

/// A `T` that a forked process and the test see both.
template <class T>
class SharedWithChild {
 public:
  SharedWithChild()
      : value_(new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                           -1, 0)) T()) {}
  SharedWithChild(const SharedWithChild&) = delete;
  SharedWithChild& operator=(const SharedWithChild&) = delete;
  ~SharedWithChild() { ::munmap(value_, sizeof(T)); }
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

/// Runs `body` in a forked process; its return value is the exit status. Killed with the test.
class Victim {
 public:
  explicit Victim(const std::function<int()>& body);
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim();

  [[nodiscard]] int pid() const { return pid_; }
  void Signal(int signal) const;
  /// Its exit status; 1000 + signal if one ended it; -1 if it has not ended in ten seconds.
  int ExitStatus();

  /// Waits until its main thread sleeps in a system call (any, or `number`). False: it does not.
  [[nodiscard]] bool AwaitAsleepIn(long number) const;
  /// Field of /proc/PID/status, e.g. "State", "TracerPid", "Seccomp".
  [[nodiscard]] std::string StatusField(const std::string& name) const;
  /// Waits until the field begins with `value`.
  [[nodiscard]] bool AwaitStatus(const std::string& name, const std::string& value) const;
  /// How many of its descriptors are userfaultfds.
  [[nodiscard]] int CountUserfaultFds() const;

 private:
  pid_t pid_;
  bool reaped_ = false;
};

/// Polls `condition` until it is true, or `limit` has passed: then false.
bool Eventually(const std::function<bool()>& condition,
                std::chrono::seconds limit = std::chrono::seconds(10));

}  // namespace faultline::testing
