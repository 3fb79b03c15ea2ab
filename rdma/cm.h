// Owners of what librdmacm makes, and bounded waiting for its events. Connection set-up only: data
// never passes here.
// Source: rdma_cm(7), rdma_get_cm_event(3), rdma_set_option(3).
#pragma once

#include <rdma/rdma_cma.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

struct EventChannelDeleter {
  void operator()(rdma_event_channel* channel) const { rdma_destroy_event_channel(channel); }
};
/// Non-blocking: rdma_get_cm_event on it says EAGAIN where nothing waits.
using EventChannel = std::unique_ptr<rdma_event_channel, EventChannelDeleter>;
Result<EventChannel> MakeEventChannel();

/// Every event has to be given back, or the id that it is about cannot be destroyed.
struct EventDeleter {
  void operator()(rdma_cm_event* event) const { (void)rdma_ack_cm_event(event); }
};
using CmEvent = std::unique_ptr<rdma_cm_event, EventDeleter>;
/// The next event, or nothing.
CmEvent NextEvent(rdma_event_channel& channel);
/// The next event; kTimeout if none comes in time.
Result<CmEvent> AwaitEvent(rdma_event_channel& channel, Nanos deadline);

/// Nothing lands or is read through the queue pair once this has returned. The id itself goes on.
/// No-op without a queue pair.
void DestroyQueuePair(rdma_cm_id& id);

struct ConnectionIdDeleter {
  void operator()(rdma_cm_id* id) const {
    DestroyQueuePair(*id);
    (void)rdma_destroy_id(id);
  }
};
/// A connection, or a listener, with its queue pair. Events about it must be given back before.
using ConnectionId = std::unique_ptr<rdma_cm_id, ConnectionIdDeleter>;
/// Of RDMA_PS_TCP. Its events come on `channel`, which outlives it.
Result<ConnectionId> MakeConnectionId(rdma_event_channel& channel);

/// CLOCK_MONOTONIC.
Nanos MonotonicNow();
/// "RDMA: `tried`: No such device (ENODEV)", kind kSystem.
tl::unexpected<Error> CmFailure(const std::string& tried, int error_number);

/// A numeric address and port, as librdmacm wants them.
class SocketAddress {
 public:
  /// `host` is a numeric IPv4 or IPv6 address.
  static Result<SocketAddress> Of(const std::string& host, uint16_t port);
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage_); }

 private:
  sockaddr_storage storage_{};
};

}  // namespace faultline::rdma
