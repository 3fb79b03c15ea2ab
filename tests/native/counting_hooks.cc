#include "tests/native/counting_hooks.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace faultline::test {
namespace {

std::array<HookCounts, kCountedThreads.size()> counts;
std::atomic<uint32_t> counting{0};  ///< which count it is, from 1; zero: none
std::atomic<uint32_t> counts_begun{0};

/// Asked once for each count and thread.
HookCounts* FindOwnCounts() {
  std::array<char, 16> name{};
  ::prctl(PR_GET_NAME, name.data());
  const std::string_view own(name.data(), ::strnlen(name.data(), name.size()));
  for (size_t i = 0; i < kCountedThreads.size(); ++i) {
    if (own.substr(0, kCountedThreads[i].size()) == kCountedThreads[i]) return &counts[i];
  }
  return nullptr;
}

/// Nothing where the calling thread is not counted.
HookCounts* OwnCounts() {
  thread_local uint32_t asked = 0;
  thread_local HookCounts* own = nullptr;
  const uint32_t now = counting.load(std::memory_order_relaxed);
  if (now == 0) return nullptr;
  if (asked != now) own = FindOwnCounts();
  asked = now;
  return own;
}

void NoteAllocation() {
  if (HookCounts* own = OwnCounts()) own->allocations.fetch_add(1);
}

}  // namespace

void StartCounting() {
  for (HookCounts& each : counts) {
    each.allocations.store(0);
    each.locks.store(0);
  }
  counting.store(counts_begun.fetch_add(1) + 1);
}

void StopCounting() { counting.store(0); }

const HookCounts& CountsOf(size_t thread) { return counts[thread]; }

}  // namespace faultline::test

// The C library's own, under the names that glibc keeps for this.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  faultline::test::NoteAllocation();
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  faultline::test::NoteAllocation();
  return __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) {
  faultline::test::NoteAllocation();
  return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  faultline::test::NoteAllocation();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) {
  faultline::test::NoteAllocation();
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  using Lock = int (*)(pthread_mutex_t*);
  static std::atomic<Lock> real{nullptr};
  Lock lock = real.load(std::memory_order_relaxed);
  if (lock == nullptr) {
    lock = reinterpret_cast<Lock>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
    real.store(lock, std::memory_order_relaxed);
  }
  if (auto* own = faultline::test::OwnCounts()) own->locks.fetch_add(1);
  return lock(mutex);
}
}
