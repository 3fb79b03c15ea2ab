// What threads of interest do behind their code's back: this program's malloc and
// pthread_mutex_lock (counting_hooks.cc) count, on the threads with certain names, and do their
// work.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

namespace faultline::test {

/// The threads that are counted, by how their names begin.
inline constexpr std::array<std::string_view, 2> kCountedThreads = {"fl-fault", "fl-serve-fault"};
inline constexpr size_t kDestinationThread = 0;
inline constexpr size_t kSourceThread = 1;

struct HookCounts {
  std::atomic<uint64_t> allocations{0};
  std::atomic<uint64_t> locks{0};
};

/// From zero. Threads that have their name by now are counted until StopCounting.
void StartCounting();
void StopCounting();
const HookCounts& CountsOf(size_t thread);

}  // namespace faultline::test
