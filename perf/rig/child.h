// A forked process of a benchmark, and memory that it shares with it.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <new>
#include <span>

#include "engine/core/check.h"
#include "engine/core/units.h"

namespace faultline::rig {

/// What a process has used, in the kernel's words.
struct ProcessCost {
  double cpu_s = 0;
  uint64_t anon_kib = 0;         ///< RssAnon
  uint64_t page_tables_kib = 0;  ///< VmPTE
};
/// The memory of a living process; `pid` 0 is one's own.
ProcessCost MemoryOf(int pid);
double OwnCpuSeconds();

/// Ends with its parent. REQUIRES: forked while the parent has one thread.
class Child {
 public:
  explicit Child(const std::function<void()>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { Kill(); }
  [[nodiscard]] int pid() const { return pid_; }
  /// Ends it; the CPU seconds that it has used. May be called again.
  double Kill();

 private:
  pid_t pid_ = -1;
  double cpu_s_ = 0;
};

/// `count` of T, seen by children forked afterwards. All pages are there: writing never faults.
template <class T>
class SharedArray {
 public:
  explicit SharedArray(size_t count) : count_(count) {
    void* const base = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    FAULTLINE_CHECK(base != MAP_FAILED);
    items_ = static_cast<T*>(base);
    for (size_t i = 0; i < count; ++i) new (&items_[i]) T();
  }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  ~SharedArray() { ::munmap(items_, count_ * sizeof(T)); }
  [[nodiscard]] std::span<T> items() const { return {items_, count_}; }
  T* operator->() const { return items_; }

 private:
  T* items_ = nullptr;
  size_t count_;
};

/// Keeps the calling thread on one processor.
void StayOnCpu(int cpu);

}  // namespace faultline::rig
