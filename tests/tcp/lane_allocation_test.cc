// No allocation on the fault path: neither the destination's lane nor the source's server makes
// one, over ten thousand pages. Every operator new of the process is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/tcp/lane_server.h"
#include "tests/tcp/loopback.h"

namespace {
std::atomic<uint64_t> allocations{0};
}  // namespace

// Not inlined: GCC takes free() of what operator new gave for a mistake.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace faultline::test {
namespace {

class LaneAllocation : public testing::TestWithParam<LaneParameter> {};
INSTANTIATE_TEST_SUITE_P(Lanes, LaneAllocation, EveryLane(), NameOf);

TEST_P(LaneAllocation, TenThousandPagesAreFetchedWithoutOne) {
  SourceGuest guest(SmallGeometry(), Seed());
  SocketPair sockets = Connect(std::get<1>(GetParam()));
  const LaneServer server(std::move(sockets.source), guest.MakeServer());
  GuestRam ram(SmallGeometry());
  auto reactor = *MakeReactor(std::get<0>(GetParam()));
  auto lane = reactor->OpenLane(std::move(sockets.destination), ram.landing());
  std::array<Arrival, 64> arrivals;
  const auto fetch = [&](uint64_t pages) {
    uint64_t posted = 0;
    for (uint64_t arrived = 0; arrived < pages;) {
      for (; posted < pages && posted - arrived < 100; ++posted) {
        lane->Post({PageIndex(posted % 256), PageCount(1)});
      }
      reactor->Wait(std::chrono::seconds(1));
      const size_t count = lane->Reap(arrivals);
      for (size_t i = 0; i < count; ++i) arrived += arrivals[i].run.count.value();
    }
  };
  fetch(100);  // what is set up on first use (thread-local storage, the ring's own) is no matter
  const uint64_t before = allocations.load();
  fetch(10'000);
  EXPECT_EQ(allocations.load() - before, 0U);
}

}  // namespace
}  // namespace faultline::test
