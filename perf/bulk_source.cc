// The source of `perf/bulk`.
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "engine/app/summary.h"
#include "engine/core/check.h"
#include "engine/tcp/lane_server.h"
#include "engine/tcp/preamble.h"
#include "perf/bulk_node.h"
#include "perf/rig/window_reader.h"

namespace faultline::bulk {
namespace {

constexpr Nanos kLook = std::chrono::milliseconds(1);

/// Random bytes; or, compressible, 24 of them in each record of 64.
std::byte* MakeMemory(const Options& options) {
  void* const memory = ::mmap(nullptr, options.bytes.value(), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  FAULTLINE_CHECK(memory != MAP_FAILED);
  std::mt19937_64 random(1);
  auto* const bytes = static_cast<std::byte*>(memory);
  for (uint64_t at = 0; at < options.bytes.value(); at += 8) {
    const bool constant = options.compressible && at % 64 >= 24;
    const uint64_t word = constant ? at % 64 : random();
    std::memcpy(bytes + at, &word, 8);
  }
  return bytes;
}

Result<tcp::UniqueFd> DialLane(const Options& options, LaneKind kind, uint32_t stream) {
  FAULTLINE_ASSIGN(Connection connection, Dial(options.peer));
  FAULTLINE_TRY(
      Introduce(connection.socket.get(), {.lane = kind, .stream = stream}, connection.peer));
  if (kind == LaneKind::kUrgent) SendFirst(connection.socket.get());
  return std::move(connection.socket);
}

void SendChunks(int socket, const Options& options, const std::byte* memory, uint32_t stream) {
  char go = 0;
  if (::recv(socket, &go, 1, 0) != 1) return;
  const uint64_t step = kChunkBytes * options.streams;
  for (uint64_t at = stream * kChunkBytes; at < options.bytes.value(); at += step) {
    for (uint64_t sent = 0; sent < kChunkBytes;) {
      const ssize_t put = ::send(socket, memory + at + sent, kChunkBytes - sent, MSG_NOSIGNAL);
      if (put <= 0) return;
      sent += static_cast<uint64_t>(put);
    }
  }
  static_cast<void>(::recv(socket, &go, 1, 0));  // until the destination closes
}

Status SendRaw(const Options& options, const std::byte* memory) {
  std::vector<tcp::UniqueFd> sockets;
  for (uint32_t stream = 0; stream < options.streams; ++stream) {
    FAULTLINE_ASSIGN(tcp::UniqueFd socket, DialLane(options, LaneKind::kBulk, stream));
    sockets.push_back(std::move(socket));
  }
  std::vector<std::thread> senders;
  for (uint32_t stream = 0; stream < options.streams; ++stream) {
    senders.emplace_back(
        [&, stream] { SendChunks(sockets[stream].get(), options, memory, stream); });
  }
  for (std::thread& sender : senders) sender.join();
  return {};
}

Status Serve(const Options& options, std::byte* memory) {
  const Geometry geometry = *Geometry::Create({{"ram0", options.bytes, PageSize(4096)}});
  const RamWindow ram(geometry, {HostAddr(reinterpret_cast<uint64_t>(memory))});
  PresenceMap presence(geometry.page_count());
  presence.MarkPresent({PageIndex(0), geometry.page_count()});
  rig::WindowReader reader(ram);
  FaultCores cores;
  std::vector<std::unique_ptr<LaneServer>> servers;
  for (uint32_t lane = 0; lane <= options.streams; ++lane) {
    const LaneKind kind = lane == 0 ? LaneKind::kUrgent : LaneKind::kBulk;
    FAULTLINE_ASSIGN(tcp::UniqueFd socket, DialLane(options, kind, lane == 0 ? 0 : lane - 1));
    LaneServer::Options how;
    how.fault_cores = &cores;
    how.urgent = kind == LaneKind::kUrgent;
    how.packs = kind == LaneKind::kBulk;
    servers.push_back(std::make_unique<LaneServer>(
        std::move(socket), std::make_unique<PageServer>(ram, presence, reader), how));
  }
  for (const auto& server : servers) {
    while (!server->ended()) std::this_thread::sleep_for(kLook);
  }
  return {};
}

}  // namespace

Result<double> RunSource(const Options& options) {
  std::byte* const memory = MakeMemory(options);
  const double cpu_before = ProcessCpuSeconds();
  FAULTLINE_TRY(options.raw ? SendRaw(options, memory) : Serve(options, memory));
  return ProcessCpuSeconds() - cpu_before;
}

}  // namespace faultline::bulk
