#include "perf/rig/floor.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "engine/tcp/socket.h"
#include "perf/rig/native_guest.h"
#include "perf/rig/touch_plan.h"
#include "uffd/attach.h"

namespace faultline::rig {
namespace {

using Clock = std::chrono::steady_clock;

uint32_t Since(Clock::time_point begin) {
  return static_cast<uint32_t>(
      std::min<int64_t>(Nanos(Clock::now() - begin).count(), int64_t{UINT32_MAX}));
}

/// Answers `count` faults: nothing but the two system calls.
void HandleFaults(int uffd, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    uffd_msg message;
    FAULTLINE_CHECK(::read(uffd, &message, sizeof message) == sizeof message);
    const uint64_t start = message.arg.pagefault.address & ~(kPageBytes - 1);
    uffdio_continue answer{.range = {.start = start, .len = kPageBytes}, .mode = 0, .mapped = 0};
    FAULTLINE_CHECK(::ioctl(uffd, UFFDIO_CONTINUE, &answer) == 0);
  }
}

constexpr size_t kPingBytes = 16;
using Page = std::array<std::byte, kPageBytes>;

void SendAll(int socket, const std::byte* bytes, size_t size) {
  FAULTLINE_CHECK(::send(socket, bytes, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size));
}

/// False: the peer has closed.
bool ReceiveAll(int socket, std::byte* bytes, size_t size, bool spins) {
  for (size_t have = 0; have < size;) {
    const ssize_t got = ::recv(socket, bytes + have, size - have, spins ? MSG_DONTWAIT : 0);
    if (got == 0) return false;
    if (got > 0) have += static_cast<size_t>(got);
  }
  return true;
}

void ServePings(const Endpoint& to, PingMode mode) {
  StayOnCpu(mode == PingMode::kSameCore ? 0 : 1);
  const Connection connection = *Dial(to);
  static Page page;
  page.fill(std::byte{1});
  std::array<std::byte, kPingBytes> ping;
  const bool spins = mode == PingMode::kTwoCoresSpinning;
  while (ReceiveAll(connection.socket.get(), ping.data(), ping.size(), spins)) {
    SendAll(connection.socket.get(), page.data(), page.size());
  }
}

std::vector<uint32_t> Ping(int socket, uint32_t count, PingMode mode) {
  StayOnCpu(0);
  static Page page;
  std::array<std::byte, kPingBytes> ping{};
  std::vector<uint32_t> took;
  took.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    const Clock::time_point begin = Clock::now();
    SendAll(socket, ping.data(), ping.size());
    FAULTLINE_CHECK(
        ReceiveAll(socket, page.data(), page.size(), mode == PingMode::kTwoCoresSpinning));
    took.push_back(Since(begin));
  }
  return took;
}

}  // namespace

std::vector<uint32_t> UserfaultRoundTrips(uint32_t touches, int cpu) {
  // Each touch has to fault: the handler below waits for all of them.
  const uint64_t bytes = std::max(uint64_t{64} << 20, touches * uint64_t{4096});
  NativeGuest guest({.bytes = bytes, .touches = touches, .cpu = cpu, .filled = true});
  const TargetProcess process = *TargetProcess::Open(guest.pid());
  const AttachedUserfault attached = *AttachUserfault(process);
  const VmRegion region = guest.Description().regions[0];
  FAULTLINE_CHECK(
      attached.uffd.Register(region.base, region.shape.length, UffdMode::kMissingAndMinor)
          .has_value());
  FAULTLINE_CHECK(::fcntl(attached.uffd.fd(), F_SETFL, 0) == 0);  // a read that waits
  std::thread handler([&] {
    StayOnCpu(cpu);
    HandleFaults(attached.uffd.fd(), touches);
  });
  guest.Go();
  handler.join();
  guest.AwaitFinished();
  FAULTLINE_CHECK(guest.wrong() == 0);
  return guest.Latencies();
}

std::string NameOf(PingMode mode) {
  switch (mode) {
    case PingMode::kSameCore:
      return "same core";
    case PingMode::kTwoCores:
      return "two cores";
    case PingMode::kTwoCoresSpinning:
      return "two cores, spinning";
  }
  return "";
}

std::vector<uint32_t> PingPongs(uint32_t count, PingMode mode) {
  Listener listener = *Listener::Create({"127.0.0.1", 0});
  const Endpoint endpoint = listener.endpoint();
  Child server([&] { ServePings(endpoint, mode); });
  const Connection connection = *listener.Accept(std::chrono::seconds(5));
  std::vector<uint32_t> took;
  std::thread([&] { took = Ping(connection.socket.get(), count, mode); }).join();
  return took;
}

}  // namespace faultline::rig
