#include "rdma/cm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "engine/core/check.h"

namespace faultline::rdma {

Nanos MonotonicNow() { return std::chrono::steady_clock::now().time_since_epoch(); }

tl::unexpected<Error> CmFailure(const std::string& tried, int error_number) {
  return Fail(ErrorKind::kSystem,
              fmt::format("RDMA: {}: {} ({})", tried, std::strerror(error_number),
                          strerrorname_np(error_number)));
}

Result<EventChannel> MakeEventChannel() {
  EventChannel channel(rdma_create_event_channel());
  if (!channel) {
    const int error_number = errno;
    const char* const hint = error_number == ENODEV || error_number == ENOENT
                                 ? "is there an RDMA device, and is the module rdma_ucm loaded?"
                                 : "may this user open /dev/infiniband/rdma_cm?";
    return CmFailure(fmt::format("open the connection manager ({})", hint), error_number);
  }
  const int flags = ::fcntl(channel->fd, F_GETFL);
  if (flags < 0 || ::fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return CmFailure("prepare the connection manager", errno);
  }
  return channel;
}

CmEvent NextEvent(rdma_event_channel& channel) {
  rdma_cm_event* event = nullptr;
  return rdma_get_cm_event(&channel, &event) == 0 ? CmEvent(event) : nullptr;
}

Result<CmEvent> AwaitEvent(rdma_event_channel& channel, Nanos deadline) {
  while (true) {
    if (CmEvent event = NextEvent(channel)) return event;
    const Nanos left = deadline - MonotonicNow();
    if (left <= Nanos::zero()) return Fail(ErrorKind::kTimeout, "RDMA: no answer in time");
    pollfd readable{.fd = channel.fd, .events = POLLIN, .revents = 0};
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int ready = ::poll(&readable, 1, static_cast<int>(std::min<int64_t>(ms, 1000)));
    if (ready < 0 && errno != EINTR) return CmFailure("wait for the connection manager", errno);
  }
}

void DestroyQueuePair(rdma_cm_id& id) {
  if (id.qp == nullptr) return;
  const int failed = ibv_destroy_qp(id.qp);
  // A device that has been taken away lands nothing more either. Anything else would leave a
  // queue pair that may still write into pages that are asked for again: better to stop here,
  // with the guest waiting, than to corrupt it.
  FAULTLINE_CHECK(failed == 0 || failed == EIO || failed == ENODEV);
  id.qp = nullptr;
}

Result<ConnectionId> MakeConnectionId(rdma_event_channel& channel) {
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(&channel, &id, nullptr, RDMA_PS_TCP) != 0) {
    return CmFailure("make a connection", errno);
  }
  return ConnectionId(id);
}

Result<SocketAddress> SocketAddress::Of(const std::string& host, uint16_t port) {
  SocketAddress address;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address.storage_);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address.storage_);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return address;
  }
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return address;
  }
  return Fail(ErrorKind::kPeer, fmt::format("RDMA: \"{}\" is not a numeric address", host));
}

}  // namespace faultline::rdma
