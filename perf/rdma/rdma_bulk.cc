// The pusher over READs and over TCP, same memory, same machine, interleaved: bytes a second from
// the first request to the last page placed, and what the source's process pays for it.
//
//   rdma_bulk ADDRESS [MIB]         a line for each run: WAY MB/s SOURCE-CPU MACHINE-CPU (s/GiB)
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "engine/core/bulk_window.h"
#include "engine/core/check.h"
#include "engine/core/push_order.h"
#include "engine/core/pusher.h"
#include "engine/tcp/socket.h"
#include "engine/tcp/tcp_reactor.h"
#include "perf/rdma/guest.h"
#include "perf/rdma/require.h"
#include "rdma/read_reactor.h"
#include "uffd/staged_landing.h"

namespace faultline::bench {
namespace {

constexpr uint64_t kPagesPerMib = 256;
constexpr double kGib = 1 << 30;

/// Time that all processors spent working, whoever's work it was: what a soft device does in the
/// kernel is on nobody's bill.
double MachineCpuSeconds() {
  std::FILE* const file = std::fopen("/proc/stat", "re");
  FAULTLINE_CHECK(file != nullptr);
  unsigned long user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0;
  const int got = std::fscanf(file, "cpu %lu %lu %lu %lu %lu %lu %lu", &user, &nice, &system, &idle,
                              &wait, &irq, &soft);
  std::fclose(file);
  FAULTLINE_CHECK(got == 7);
  return static_cast<double>(user + nice + system + irq + soft) / 100.0;
}

double Seconds(Nanos time) { return std::chrono::duration<double>(time).count(); }

/// Pushes all of the guest; `open(reactor)` makes the lane. Prints the line.
template <class OpenLane>
void Push(const char* way, SourceProcess& source, Guest& guest, Reactor& reactor, OpenLane open) {
  SequentialOrder order(guest.geometry());
  BulkWindow window(1);
  Pusher pusher(guest.Parts(), order, reactor, PusherLimits{.window = &window});
  const double machine = MachineCpuSeconds();
  const Nanos cpu = source.CpuTime();
  const Nanos began = rdma::MonotonicNow();
  pusher.SetLane(open());
  while (guest.ledger().missing().value() > 0) {
    FAULTLINE_CHECK(pusher.Step(std::chrono::milliseconds(5)) == StepResult::kContinue);
  }
  const double took = Seconds(rdma::MonotonicNow() - began);
  const double source_cpu = Seconds(source.CpuTime() - cpu);
  pusher.DropLane();
  const auto bytes = static_cast<double>(guest.geometry().byte_count().value());
  std::printf("%-4s %7.1f MB/s  source %7.3f s/GiB  machine %7.2f s/GiB\n", way, bytes / took / 1e6,
              source_cpu / bytes * kGib, (MachineCpuSeconds() - machine) / bytes * kGib);
  for (PageIndex page(0); page < PageIndex(0) + guest.geometry().page_count(); ++page) {
    FAULTLINE_CHECK(guest.Load(page) == PatternOf(page.value()));
  }
}

void PushOverReads(SourceProcess& source, PageCount pages, uint64_t generation) {
  Guest guest(pages);
  ReadWays ways(guest, source);
  std::printf("registering the destination %.2f s/GiB\n",
              Seconds(ways.registration()) * kGib /
                  static_cast<double>(guest.geometry().byte_count().value()));
  const auto inner = Require(MakeReactor());
  rdma::ReadReactor reactor(*inner, Nanos::zero());
  Push("read", source, guest, reactor, [&] {
    return std::make_unique<rdma::ReadChannel>(ways.Connect(LaneKind::kBulk, generation),
                                               ways.Memory(), reactor);
  });
}

void PushOverTcp(SourceProcess& source, PageCount pages) {
  Guest guest(pages);
  auto listener = Require(Listener::Create({"127.0.0.1", 0}));
  const auto area = Require(StagedLanding::Create(guest.ram()));
  const auto reactor = Require(MakeReactor());
  Push("tcp", source, guest, *reactor, [&] {
    source.ServeOverTcp(listener.endpoint().port);
    return reactor->OpenLane(Require(listener.Accept(std::chrono::seconds(5))).socket, *area);
  });
}

void Measure(const std::string& host, PageCount pages) {
  SourceProcess source(host, pages);
  const SourceProcess::Offer& offer = source.offer();
  const double gib = static_cast<double>(pages.value()) / (kPagesPerMib * 1024.0);
  std::printf("registering the source %.2f s/GiB, CPU %.2f s/GiB\n",
              Seconds(offer.registration) / gib, Seconds(offer.registration_cpu) / gib);
  PushOverReads(source, pages, 1);
  PushOverTcp(source, pages);
  PushOverTcp(source, pages);
  PushOverReads(source, pages, 2);
}

}  // namespace
}  // namespace faultline::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: rdma_bulk ADDRESS [MIB]\n");
    return 2;
  }
  const auto mib = static_cast<uint64_t>(argc > 2 ? std::atoi(argv[2]) : 64);
  faultline::bench::Measure(argv[1], faultline::PageCount(mib * faultline::bench::kPagesPerMib));
  return 0;
}
