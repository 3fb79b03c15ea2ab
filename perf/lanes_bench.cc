// The page lanes over the loopback device, destination and source in one process.
//
//   UrgentPing   one 4 KiB page asked for and landed: the lane's part of a demand fetch
//   BulkRuns     256 KiB runs with a window of them in flight: the pusher's rate
//
// Arguments: io_uring (1) or epoll (2); runs in flight. "One core": both ends on CPU 0, where a
// wake-up is a switch and not an interrupt, and neither end looks before it sleeps.
#include <benchmark/benchmark.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/core/check.h"
#include "engine/core/metrics.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/lane_server.h"
#include "engine/tcp/socket.h"
#include "engine/tcp/tcp_reactor.h"
#include "perf/rig/window_reader.h"

namespace faultline {
namespace {

constexpr uint64_t kRamBytes = uint64_t{64} << 20;
constexpr uint64_t kPages = kRamBytes / 4096;

void RunOnCpu0() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(0, &cpus);
  FAULTLINE_CHECK(::sched_setaffinity(0, sizeof cpus, &cpus) == 0);
}

/// One mapping of kRamBytes with a byte in every page; never unmapped.
RamWindow MakeRam(const Geometry& geometry) {
  void* const base = ::mmap(nullptr, kRamBytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  FAULTLINE_CHECK(base != MAP_FAILED);
  std::memset(base, 0x5A, kRamBytes);
  return RamWindow(geometry, {HostAddr(reinterpret_cast<uint64_t>(base))});
}

/// Made once: filling it takes longer than a benchmark.
struct Memory {
  Geometry geometry = *Geometry::Create({{"ram0", ByteCount(kRamBytes), PageSize(4096)}});
  RamWindow source = MakeRam(geometry);
  RamWindow destination = MakeRam(geometry);
  AliasLanding landing{destination};
  PresenceMap presence{geometry.page_count()};
  rig::WindowReader reader{source};

  static Memory& Get() {
    static Memory memory;
    return memory;
  }

 private:
  Memory() { presence.MarkPresent({PageIndex(0), geometry.page_count()}); }
};

class Lanes {
 public:
  Lanes(const benchmark::State& state, LaneKind kind, bool one_core) {
    cpu_set_t before;
    ::sched_getaffinity(0, sizeof before, &before);
    if (one_core) RunOnCpu0();  // the lane server's thread inherits it
    auto listener = *Listener::Create({"127.0.0.1", 0});
    auto dialled = *Dial(listener.endpoint());
    auto accepted = *listener.Accept(std::chrono::seconds(5));
    Memory& memory = Memory::Get();
    LaneServer::Options options;
    options.urgent = kind == LaneKind::kUrgent;
    server_ = std::make_unique<LaneServer>(
        std::move(dialled.socket),
        std::make_unique<PageServer>(memory.source, memory.presence, memory.reader),
        std::move(options));
    reactor_ = *MakeReactor(state.range(0) == 1 ? IoPreference::kUring : IoPreference::kEpoll);
    lane_ = reactor_->OpenLane(std::move(accepted.socket), memory.landing);
    before_ = before;
  }
  ~Lanes() { ::sched_setaffinity(0, sizeof before_, &before_); }

  PageChannel& lane() { return *lane_; }
  void Wait() { reactor_->Wait(std::chrono::seconds(1)); }
  uint64_t ReapPages() {
    const size_t count = lane_->Reap(arrivals_);
    uint64_t pages = 0;
    for (size_t i = 0; i < count; ++i) pages += arrivals_[i].run.count.value();
    return pages;
  }

 private:
  std::unique_ptr<LaneServer> server_;
  std::unique_ptr<TcpReactor> reactor_;
  std::unique_ptr<PageChannel> lane_;
  std::array<Arrival, 64> arrivals_{};
  cpu_set_t before_{};
};

void Ping(benchmark::State& state, bool one_core) {
  Lanes lanes(state, LaneKind::kUrgent, one_core);
  auto latency = std::make_unique<LatencyHistogram>();
  uint64_t page = 0;
  for (auto _ : state) {
    const Nanos start = tcp::MonotonicNow();
    page = (page * 25 + 7) % kPages;
    lanes.lane().Post({PageIndex(page), PageCount(1)});
    do {
      lanes.Wait();
    } while (lanes.ReapPages() == 0);
    latency->Record(tcp::MonotonicNow() - start);
  }
  state.counters["p50_us"] = static_cast<double>(latency->Quantile(0.5).count()) / 1e3;
  state.counters["p99_us"] = static_cast<double>(latency->Quantile(0.99).count()) / 1e3;
}

void UrgentPing(benchmark::State& state) { Ping(state, false); }
void UrgentPingOneCore(benchmark::State& state) { Ping(state, true); }

void BulkRuns(benchmark::State& state) {
  constexpr uint64_t kRunPages = 64;
  const auto window_pages = static_cast<uint64_t>(state.range(1)) * kRunPages;
  Lanes lanes(state, LaneKind::kBulk, false);
  uint64_t posted = 0;
  uint64_t arrived = 0;
  for (auto _ : state) {
    // One iteration is one run: keep the window full until another run's worth has arrived.
    const uint64_t goal = arrived + kRunPages;
    while (arrived < goal) {
      for (; posted - arrived + kRunPages <= window_pages; posted += kRunPages) {
        lanes.lane().Post({PageIndex(posted % kPages), PageCount(kRunPages)});
      }
      lanes.Wait();
      arrived += lanes.ReapPages();
    }
  }
  state.SetBytesProcessed(static_cast<int64_t>(arrived * 4096));
}

BENCHMARK(UrgentPing)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(UrgentPingOneCore)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(BulkRuns)->ArgsProduct({{1, 2}, {1, 4, 16}})->UseRealTime();

}  // namespace
}  // namespace faultline
