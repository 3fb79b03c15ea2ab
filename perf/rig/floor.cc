#include "perf/rig/floor.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "engine/tcp/socket.h"
#include "perf/rig/native_guest.h"
#include "perf/rig/touch_plan.h"
#include "uffd/attach.h"
#include "uffd/guest_ram.h"

namespace faultline::rig {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kOtherCpu = 1;

uint32_t Since(Clock::time_point begin) {
  return static_cast<uint32_t>(
      std::min<int64_t>(Nanos(Clock::now() - begin).count(), int64_t{UINT32_MAX}));
}

/// Answers `count` faults: nothing but the two system calls, and between them `fetch` of the
/// page's address.
template <class Fetch>
void HandleFaults(int uffd, uint32_t count, Fetch fetch) {
  for (uint32_t i = 0; i < count; ++i) {
    uffd_msg message;
    FAULTLINE_CHECK(::read(uffd, &message, sizeof message) == sizeof message);
    const uint64_t start = message.arg.pagefault.address & ~(kPageBytes - 1);
    fetch(start);
    uffdio_continue answer{.range = {.start = start, .len = kPageBytes}, .mode = 0, .mapped = 0};
    FAULTLINE_CHECK(::ioctl(uffd, UFFDIO_CONTINUE, &answer) == 0);
  }
}

/// A native guest whose faults come to a handler on the guest's core.
class FaultingGuest {
 public:
  FaultingGuest(FloorGuest guest, uint32_t touches)
      : touches_(touches),
        guest_({.bytes = guest.bytes,
                .touches = touches,
                .cpu = kGuestCpu,
                .filled = true,
                .huge = guest.huge}),
        vm_(guest_.Description()),
        attached_(*AttachUserfault(*TargetProcess::Open(guest_.pid()))) {
    // Each touch has to fault: the handler waits for all of them.
    FAULTLINE_CHECK(vm_.regions.size() == 1 && touches <= guest.bytes / kPageBytes);
    const VmRegion& region = vm_.regions[0];
    FAULTLINE_CHECK(
        attached_.uffd.Register(region.base, region.shape.length, UffdMode::kMissingAndMinor)
            .has_value());
    FAULTLINE_CHECK(::fcntl(attached_.uffd.fd(), F_SETFL, 0) == 0);  // a read that waits
  }
  /// ns of each touch.
  template <class Fetch>
  std::vector<uint32_t> Run(Fetch fetch) {
    std::thread handler([&] {
      StayOnCpu(kGuestCpu);
      HandleFaults(attached_.uffd.fd(), touches_, fetch);
    });
    guest_.Go();
    handler.join();
    guest_.AwaitFinished();
    FAULTLINE_CHECK(guest_.wrong() == 0);
    return guest_.Latencies();
  }
  [[nodiscard]] const VmDescription& vm() const { return vm_; }

 private:
  const uint32_t touches_;
  NativeGuest guest_;
  const VmDescription vm_;
  AttachedUserfault attached_;
};

/// What is asked for: sixteen bytes, like the engine's.
struct Ping {
  uint64_t page;
  uint64_t unused;
};
using Page = std::array<std::byte, kPageBytes>;

void Send(int socket, const void* bytes, size_t size) {
  FAULTLINE_CHECK(::send(socket, bytes, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size));
}

/// False: the peer has closed.
bool Receive(int socket, void* bytes, size_t size, bool spins) {
  for (size_t have = 0; have < size;) {
    const ssize_t got =
        ::recv(socket, static_cast<char*>(bytes) + have, size - have, spins ? MSG_DONTWAIT : 0);
    if (got == 0) return false;
    FAULTLINE_CHECK(got > 0 || errno == EAGAIN);
    if (got > 0) have += static_cast<size_t>(got);
  }
  return true;
}

void ServePings(const Endpoint& to, PingMode mode) {
  StayOnCpu(mode == PingMode::kSameCore ? kGuestCpu : kOtherCpu);
  const Connection connection = *Dial(to);
  static Page page;
  page.fill(std::byte{1});
  Ping ping;
  const bool spins = mode == PingMode::kTwoCoresSpinning;
  while (Receive(connection.socket.get(), &ping, sizeof ping, spins)) {
    const uint64_t word = WordOf(ping.page);
    std::memcpy(page.data(), &word, sizeof word);
    Send(connection.socket.get(), page.data(), page.size());
  }
}

/// The far end of pings, a process of its own, and a connection to it.
class PingServer {
 public:
  explicit PingServer(PingMode mode)
      : spins_(mode == PingMode::kTwoCoresSpinning),
        server_([this, mode] { ServePings(listener_.endpoint(), mode); }),
        connection_(*listener_.Accept(std::chrono::seconds(5))) {}
  void Fetch(uint64_t number, void* into) const {
    const Ping ping{number, 0};
    Send(connection_.socket.get(), &ping, sizeof ping);
    FAULTLINE_CHECK(Receive(connection_.socket.get(), into, kPageBytes, spins_));
  }

 private:
  const bool spins_;
  Listener listener_ = *Listener::Create({"127.0.0.1", 0});
  Child server_;
  Connection connection_;
};

std::vector<uint32_t> TimePings(const PingServer& server, uint32_t count) {
  StayOnCpu(kGuestCpu);
  static Page page;
  std::vector<uint32_t> took;
  took.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    const Clock::time_point begin = Clock::now();
    server.Fetch(i, page.data());
    took.push_back(Since(begin));
  }
  return took;
}

}  // namespace

std::vector<uint32_t> UserfaultRoundTrips(FloorGuest guest, uint32_t touches) {
  return FaultingGuest(guest, touches).Run([](uint64_t) {});
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
  const PingServer server(mode);
  std::vector<uint32_t> took;
  std::thread([&] { took = TimePings(server, count); }).join();
  return took;
}

std::vector<uint32_t> RawFetches(FloorGuest plan, uint32_t touches, PingMode mode) {
  FaultingGuest guest(plan, touches);
  const PingServer server(mode);
  const Geometry geometry = *GeometryOf(guest.vm());
  const GuestRam ram = *GuestRam::Open(geometry, guest.vm(), RamAccess::kReadWrite);
  FAULTLINE_CHECK(ram.PopulateWrite({PageIndex(0), geometry.page_count()}).has_value());
  const VmmAddr base = guest.vm().regions[0].base;
  return guest.Run([&](uint64_t address) {
    const PageIndex page((address - base.value()) / kPageBytes);
    server.Fetch(page.value(), ram.window().BytesOf({page, PageCount(1)}).data());
  });
}

}  // namespace faultline::rig
