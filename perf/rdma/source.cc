#include "perf/rdma/source.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <vector>

#include "engine/core/check.h"
#include "engine/tcp/lane_server.h"
#include "engine/tcp/socket.h"
#include "perf/rdma/require.h"
#include "perf/rig/window_reader.h"
#include "rdma/answerer.h"
#include "rdma/memlock.h"

namespace faultline::bench {
namespace {

constexpr uint64_t kPageBytes = 4096;

struct Question {
  uint32_t command;
  uint32_t argument;
};

Nanos CpuTimeOfThisProcess() {
  rusage usage{};
  FAULTLINE_CHECK(::getrusage(RUSAGE_SELF, &usage) == 0);
  const auto nanos = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return nanos(usage.ru_utime) + nanos(usage.ru_stime);
}

std::span<std::byte> FilledMemory(PageCount pages) {
  const size_t bytes = pages.value() * kPageBytes;
  void* const base =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  FAULTLINE_CHECK(base != MAP_FAILED);
  auto* const words = static_cast<uint64_t*>(base);
  for (uint64_t page = 0; page < pages.value(); ++page) {
    words[page * kPageBytes / sizeof(uint64_t)] = PatternOf(page);
  }
  return {static_cast<std::byte*>(base), bytes};
}

/// Serves page lanes from memory that is all there.
class TcpServer {
 public:
  explicit TcpServer(std::span<std::byte> memory)
      : geometry_(
            Require(Geometry::Create({{"ram0", ByteCount(memory.size()), PageSize(kPageBytes)}}))),
        window_(geometry_, {HostAddr(reinterpret_cast<uint64_t>(memory.data()))}),
        presence_(geometry_.page_count()) {
    presence_.MarkPresent({PageIndex(0), geometry_.page_count()});
  }
  void Serve(uint16_t port) {
    servers_.push_back(
        std::make_unique<LaneServer>(Require(Dial(Endpoint{"127.0.0.1", port})).socket,
                                     std::make_unique<PageServer>(window_, presence_, reader_)));
  }

 private:
  Geometry geometry_;
  RamWindow window_;
  PresenceMap presence_;
  rig::WindowReader reader_{window_};
  std::vector<std::unique_ptr<LaneServer>> servers_;
};

}  // namespace

SourceProcess::SourceProcess(const std::string& host, PageCount pages) : host_(host) {
  std::array<int, 2> ends{};
  FAULTLINE_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  pid_ = ::fork();
  FAULTLINE_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    ::close(ends[0]);
    Run(ends[1], host, pages);
  }
  ::close(ends[1]);
  control_ = ends[0];
  FAULTLINE_CHECK(::recv(control_, &offer_, sizeof offer_, 0) == sizeof offer_);
}

SourceProcess::~SourceProcess() {
  ::close(control_);  // the source ends by itself then
  ::waitpid(pid_, nullptr, 0);
}

void SourceProcess::Run(int control, const std::string& host, PageCount pages) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  rdma::RaiseMemlock();
  const std::span<std::byte> memory = FilledMemory(pages);
  TcpServer tcp(memory);
  const auto answerer = Require(
      rdma::Answerer::Create({.address = {.device = "", .host = host}, .migration = migration()}));
  const Nanos began = rdma::MonotonicNow();
  const Nanos cpu_before = CpuTimeOfThisProcess();
  const auto region =
      Require(rdma::Register(answerer->domain(), memory, rdma::RegionUse::kReadByPeer));
  const Offer offer{.port = answerer->port(),
                    .pages = {.run = {PageIndex(0), pages},
                              .address = reinterpret_cast<uint64_t>(memory.data()),
                              .key = region->rkey},
                    .registration = rdma::MonotonicNow() - began,
                    .registration_cpu = CpuTimeOfThisProcess() - cpu_before};
  FAULTLINE_CHECK(::send(control, &offer, sizeof offer, 0) == sizeof offer);
  Question question{};
  while (::recv(control, &question, sizeof question, 0) == sizeof question) {
    if (question.command == static_cast<uint32_t>(Command::kServe)) {
      tcp.Serve(static_cast<uint16_t>(question.argument));
    }
    const auto answer = static_cast<uint64_t>(CpuTimeOfThisProcess().count());
    FAULTLINE_CHECK(::send(control, &answer, sizeof answer, 0) == sizeof answer);
  }
  ::_exit(0);
}

uint64_t SourceProcess::Ask(Command command, uint32_t argument) {
  const Question question{static_cast<uint32_t>(command), argument};
  FAULTLINE_CHECK(::send(control_, &question, sizeof question, 0) == sizeof question);
  uint64_t answer = 0;
  FAULTLINE_CHECK(::recv(control_, &answer, sizeof answer, 0) == sizeof answer);
  return answer;
}

Nanos SourceProcess::CpuTime() { return Nanos(static_cast<int64_t>(Ask(Command::kCpuTime, 0))); }

void SourceProcess::ServeOverTcp(uint16_t port) { Ask(Command::kServe, port); }

}  // namespace faultline::bench
