// One demand fault over READs against its floor, in one run on one device:
//
//   raw READ    4 KiB posted and polled for, nothing else
//   raw uffd    a touch of a page that is in the page cache: read the message, CONTINUE
//   raw both    a touch of a page that is at the source: read the message, READ, CONTINUE
//   fault       the same by the engine: its fault loop and lane of READs
//
// Interleaved; each sample is another page. A guest thread times its own touches.
//
//   rdma_latency ADDRESS [SPIN_US]
#include <infiniband/verbs.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/fault_loop.h"
#include "engine/core/routed_channel.h"
#include "engine/tcp/tcp_reactor.h"
#include "perf/rdma/guest.h"
#include "perf/rdma/require.h"
#include "rdma/read_reactor.h"

namespace faultline::bench {
namespace {

constexpr uint64_t kBlockPages = 40;
constexpr uint64_t kRounds = 30;
constexpr uint64_t kKinds = 4;
constexpr uint64_t kPages = kBlockPages * kRounds * kKinds;

using Samples = std::vector<Nanos>;

double Micros(Samples samples, double quantile) {
  std::sort(samples.begin(), samples.end());
  const auto at = static_cast<size_t>(quantile * static_cast<double>(samples.size() - 1));
  return static_cast<double>(samples[at].count()) / 1e3;
}

/// A guest's thread touches each page of `run` and times it; meanwhile serve() is called again and
/// again by this thread.
template <class Serve>
void Touch(Guest& guest, PageRun run, Samples& samples, Serve serve) {
  std::atomic<bool> done{false};
  std::thread vcpu([&] {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      const Nanos began = rdma::MonotonicNow();
      const uint64_t word = guest.Load(page);
      samples.push_back(rdma::MonotonicNow() - began);
      FAULTLINE_CHECK(word == PatternOf(page.value()));
    }
    done.store(true, std::memory_order_release);
  });
  while (!done.load(std::memory_order_acquire)) serve();
  vcpu.join();
}

/// READs without anything of ours.
class RawReader {
 public:
  RawReader(ReadWays& ways, const SourceProcess& source, Guest& guest)
      : guest_(guest),
        remote_(source.offer().pages),
        key_(ways.local().lkey),
        connection_(ways.Connect(LaneKind::kBulk, 1)) {}

  void Read(PageIndex page) {
    Post(page);
    Await();
  }

  void Read(PageRun run, Samples* samples) {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      const Nanos began = rdma::MonotonicNow();
      Read(page);
      if (samples != nullptr) samples->push_back(rdma::MonotonicNow() - began);
    }
  }

 private:
  void Post(PageIndex page) {
    ibv_sge target{guest_.ram().window().AddrOf(page).value(), 4096, key_};
    ibv_send_wr request{};
    request.sg_list = &target;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_READ;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = remote_.address + page.value() * 4096;
    request.wr.rdma.rkey = remote_.key;
    ibv_send_wr* failed = nullptr;
    FAULTLINE_CHECK(ibv_post_send(connection_.id->qp, &request, &failed) == 0);
  }
  void Await() {
    ibv_wc completion{};
    while (ibv_poll_cq(connection_.queue.get(), 1, &completion) == 0) {
    }
    FAULTLINE_CHECK(completion.status == IBV_WC_SUCCESS);
  }

  Guest& guest_;
  const wire::RdmaRegion remote_;
  const uint32_t key_;
  rdma::Connection connection_;
};

/// `fetch(address)` brings the page there into the page cache, if need be.
template <class Fetch>
void AnswerOneFault(Guest& guest, Fetch fetch) {
  pollfd readable{.fd = guest.uffd().fd(), .events = POLLIN, .revents = 0};
  if (::poll(&readable, 1, 5) <= 0) return;
  uffd_msg message{};
  if (::read(guest.uffd().fd(), &message, sizeof message) != sizeof message) return;
  const VmmAddr page(message.arg.pagefault.address & ~uint64_t{4095});
  fetch(page);
  FAULTLINE_CHECK(guest.uffd().Continue(page, ByteCount(4096)).outcome == UffdOutcome::kDone);
}

/// The way of pages that cannot be read: there are none.
struct NoServedLane final : PageChannel {
  [[nodiscard]] size_t Room() const override { return 64; }
  void Post(PageRun) override { FAULTLINE_CHECK(false); }
  size_t Reap(std::span<Arrival>) override { return 0; }
  [[nodiscard]] LaneHealth Health() const override { return LaneHealth::kOpen; }
  void Close() override {}
  [[nodiscard]] std::span<const PageRun> Unanswered() const override { return {}; }
  [[nodiscard]] ByteCount WireBytes() const override { return {}; }
};

struct OneLane final : DirectLanes {
  std::unique_ptr<DirectChannel> lane;
  std::unique_ptr<DirectChannel> TakeDirect() override { return std::move(lane); }
  void NoteDirectLost() override {}
};

/// As the engine's own summary has them: from the message read to the waiter awake.
void PrintStages(const FaultMetrics& metrics) {
  const auto micros = [](const LatencyHistogram& stage) {
    return static_cast<double>(stage.Quantile(0.5).count()) / 1e3;
  };
  std::printf("engine's p50: request %.1f us, fetch %.1f us, place %.1f us, together %.1f us\n",
              micros(metrics.request), micros(metrics.fetch), micros(metrics.place),
              micros(metrics.total));
}

struct Figures {
  Samples read, fault, both, served;

  /// The samples of one round are close to each other in time.
  [[nodiscard]] static double MedianOf(const Samples& samples, uint64_t round) {
    const auto first = samples.begin() + static_cast<std::ptrdiff_t>(round * kBlockPages);
    return Micros(Samples(first, first + kBlockPages), 0.5);
  }
  [[nodiscard]] double OfSum(uint64_t round) const {
    return MedianOf(served, round) / (MedianOf(read, round) + MedianOf(fault, round));
  }
  [[nodiscard]] double OfBoth(uint64_t round) const {
    return MedianOf(served, round) / MedianOf(both, round);
  }
};

Figures Measure(const std::string& host, Nanos spin) {
  SourceProcess source(host, PageCount(kPages));
  Guest guest{PageCount(kPages)};
  ReadWays ways(guest, source);
  RawReader raw(ways, source, guest);
  const auto inner = Require(MakeReactor(kBestBesideReads));
  rdma::ReadReactor reactor(*inner, spin);
  OneLane lanes;
  lanes.lane = std::make_unique<rdma::ReadChannel>(ways.Connect(LaneKind::kUrgent, 1),
                                                   ways.Memory(), reactor);
  FaultLoop loop(guest.Parts(), guest.source(), reactor);
  loop.SetLane(std::make_unique<RoutedChannel>(std::make_unique<NoServedLane>(), lanes));

  Figures figures;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const auto block = [&](uint64_t kind) {
      return PageRun{PageIndex((round * kKinds + kind) * kBlockPages), PageCount(kBlockPages)};
    };
    raw.Read(block(0), &figures.read);
    Touch(guest, block(1), figures.served, [&] {
      FAULTLINE_CHECK(loop.Step(std::chrono::milliseconds(5)) == StepResult::kContinue);
    });
    raw.Read(block(2), nullptr);  // into the page cache
    Touch(guest, block(2), figures.fault, [&] { AnswerOneFault(guest, [](VmmAddr) {}); });
    Touch(guest, block(3), figures.both,
          [&] { AnswerOneFault(guest, [&](VmmAddr page) { raw.Read(guest.PageAt(page)); }); });
  }
  loop.DropLane();
  PrintStages(guest.fault_metrics());
  return figures;
}

template <class Ratio>
void PrintRatio(const char* name, Ratio of_round) {
  std::vector<double> ratios;
  for (uint64_t round = 0; round < kRounds; ++round) ratios.push_back(of_round(round));
  std::sort(ratios.begin(), ratios.end());
  std::printf("%s: %.2f, median of %zu rounds; quartiles %.2f, %.2f\n", name,
              ratios[ratios.size() / 2], ratios.size(), ratios[ratios.size() / 4],
              ratios[ratios.size() * 3 / 4]);
}

void Print(const Figures& figures) {
  const auto row = [](const char* name, const Samples& samples) {
    std::printf("%-10s p50 %7.1f us  p90 %7.1f us  p99 %8.1f us\n", name, Micros(samples, 0.5),
                Micros(samples, 0.9), Micros(samples, 0.99));
  };
  row("raw READ", figures.read);
  row("raw uffd", figures.fault);
  row("raw both", figures.both);
  row("fault", figures.served);
  PrintRatio("fault / (raw READ + raw uffd)", [&](uint64_t round) { return figures.OfSum(round); });
  PrintRatio("fault / raw both", [&](uint64_t round) { return figures.OfBoth(round); });
}

}  // namespace
}  // namespace faultline::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: rdma_latency ADDRESS [SPIN_US]\n");
    return 2;
  }
  const auto spin = std::chrono::microseconds(argc > 2 ? std::atoi(argv[2]) : 20);
  faultline::bench::Print(faultline::bench::Measure(argv[1], spin));
  return 0;
}
