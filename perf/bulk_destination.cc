// The destination of `perf/bulk`: the engine's own loops and lanes, or the bare pipeline.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "engine/app/destination_pages.h"
#include "engine/app/summary.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/preamble.h"
#include "perf/bulk_node.h"
#include "perf/rig/warm_memory.h"
#include "uffd/attach.h"

namespace faultline::bulk {
namespace {

constexpr Nanos kLook = std::chrono::microseconds(200);
constexpr Nanos kPatience = std::chrono::seconds(30);

/// The next `count` lanes, in the order in which the source dials them.
Result<std::vector<tcp::UniqueFd>> AcceptLanes(Listener& listener, uint32_t count) {
  std::vector<tcp::UniqueFd> lanes;
  while (lanes.size() < count) {
    FAULTLINE_ASSIGN(Connection connection, listener.Accept(kPatience));
    FAULTLINE_TRY(ReadIntroduction(connection.socket.get(), connection.peer));
    FAULTLINE_TRY(AnswerIntroduction(connection.socket.get(), wire::PreambleStatus::kAccepted,
                                     connection.peer));
    lanes.push_back(std::move(connection.socket));
  }
  return lanes;
}

struct Attached {
  TargetProcess process;
  AttachedUserfault userfault;
};

Result<Attached> Attach(const BulkGuest& guest, ByteCount bytes) {
  FAULTLINE_ASSIGN(TargetProcess process, TargetProcess::Open(guest.description().pid));
  FAULTLINE_ASSIGN(AttachedUserfault userfault, AttachUserfault(process));
  FAULTLINE_TRY(userfault.uffd.Register(guest.base(), bytes, UffdMode::kMissingAndMinor));
  return Attached{std::move(process), std::move(userfault)};
}

/// Socket → page cache → CONTINUE, chunk by chunk, nothing else.
class RawStream {
 public:
  RawStream(int socket, const UserfaultFd& uffd, const BulkGuest& guest)
      : socket_(socket), uffd_(uffd), guest_(guest), staging_(kChunkBytes) {}

  bool Receive(uint64_t first, uint64_t step, uint64_t end) {
    if (::send(socket_, "g", 1, MSG_NOSIGNAL) != 1) return false;
    for (uint64_t at = first; at < end; at += step) {
      if (!ReceiveChunk(at)) return false;
    }
    return true;
  }

 private:
  bool ReceiveChunk(uint64_t at) {
    const auto size = static_cast<ssize_t>(kChunkBytes);
    if (::recv(socket_, staging_.data(), kChunkBytes, MSG_WAITALL) != size) return false;
    if (::pwrite(guest_.file(), staging_.data(), kChunkBytes, static_cast<off_t>(at)) != size) {
      return false;
    }
    const UffdProgress mapped =
        uffd_.Continue(guest_.base() + ByteCount(at), ByteCount(kChunkBytes));
    return mapped.outcome == UffdOutcome::kDone;
  }

  const int socket_;
  const UserfaultFd& uffd_;
  const BulkGuest& guest_;
  std::vector<std::byte> staging_;
};

}  // namespace

Result<Figures> RunEngine(const Options& options, Listener& listener, BulkGuest& guest) {
  FAULTLINE_ASSIGN(Geometry geometry, GeometryOf(guest.description()));
  const auto privileged = [](const TargetProcess& process) { return AttachUserfault(process); };
  const PageLimits limits{
      .window = options.window, .streams = options.streams, .compression = options.compression};
  FAULTLINE_ASSIGN(const auto pages,
                   DestinationPages::Create(guest.description(), privileged, std::move(geometry),
                                            options.state_dir, limits));
  FAULTLINE_ASSIGN(auto lanes, AcceptLanes(listener, options.streams + 1));
  pages->GiveLane(LaneKind::kUrgent, 0, std::move(lanes[0]));
  for (uint32_t stream = 0; stream < options.streams; ++stream) {
    pages->GiveLane(LaneKind::kBulk, stream, std::move(lanes[stream + 1]));
  }
  rig::WarmMemory(options.bytes);
  const double cpu_before = ProcessCpuSeconds();
  const Nanos start = tcp::MonotonicNow();
  pages->Open();
  pages->OpenBulk();
  guest.Go();
  while (pages->missing() > PageCount(0)) std::this_thread::sleep_for(kLook);
  const Nanos elapsed = tcp::MonotonicNow() - start;
  const double cpu_s = ProcessCpuSeconds() - cpu_before;
  guest.Stop();
  return Figures{elapsed, cpu_s, pages->Summary({})};
}

Result<Figures> RunRaw(const Options& options, Listener& listener, BulkGuest& guest) {
  FAULTLINE_ASSIGN(const Attached attached, Attach(guest, options.bytes));
  FAULTLINE_ASSIGN(auto lanes, AcceptLanes(listener, options.streams));
  rig::WarmMemory(options.bytes);
  const double cpu_before = ProcessCpuSeconds();
  const Nanos start = tcp::MonotonicNow();
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  for (uint32_t stream = 0; stream < options.streams; ++stream) {
    threads.emplace_back([&, stream] {
      RawStream raw(lanes[stream].get(), attached.userfault.uffd, guest);
      const uint64_t step = kChunkBytes * options.streams;
      if (!raw.Receive(stream * kChunkBytes, step, options.bytes.value())) failed = true;
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Nanos elapsed = tcp::MonotonicNow() - start;
  const double cpu_s = ProcessCpuSeconds() - cpu_before;
  guest.Stop();
  if (failed) return Fail(ErrorKind::kSystem, "the raw pipeline broke");
  return Figures{elapsed, cpu_s, {{"data_bytes", options.bytes.value()}}};
}

}  // namespace faultline::bulk
