#include "rdma/dial.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "rdma/queue_pair.h"

namespace faultline::rdma {
namespace {

std::string NameOf(const DialPlan& plan) { return fmt::format("{} port {}", plan.host, plan.port); }

/// Waits for `wanted`; any other event is the failure of `step`.
Result<CmEvent> Expect(rdma_event_channel& events, rdma_cm_event_type wanted, const char* step,
                       const DialPlan& plan, Nanos deadline) {
  Result<CmEvent> event = AwaitEvent(events, deadline);
  if (!event.has_value()) {
    return Fail(event.error().kind,
                fmt::format("RDMA: {} {}: no answer in time", step, NameOf(plan)));
  }
  if ((*event)->event == wanted) return event;
  return Fail(ErrorKind::kPeer, fmt::format("RDMA: {} {}: {} (status {})", step, NameOf(plan),
                                            rdma_event_str((*event)->event), (*event)->status));
}

/// Up to here it is known which device leads there.
Status ResolveAddress(rdma_event_channel& events, rdma_cm_id& id, const DialPlan& plan,
                      Nanos deadline) {
  FAULTLINE_ASSIGN(SocketAddress to, SocketAddress::Of(plan.host, plan.port));
  SocketAddress from;
  if (!plan.from_host.empty()) {
    FAULTLINE_ASSIGN(from, SocketAddress::Of(plan.from_host, 0));
  }
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(plan.timeout);
  if (rdma_resolve_addr(&id, plan.from_host.empty() ? nullptr : from.get(), to.get(),
                        static_cast<int>(timeout.count())) != 0) {
    return CmFailure("find a device that leads to " + NameOf(plan), errno);
  }
  FAULTLINE_TRY(Expect(events, RDMA_CM_EVENT_ADDR_RESOLVED, "finding a device that leads to", plan,
                       deadline));
  return {};
}

Status ResolveRoute(rdma_event_channel& events, rdma_cm_id& id, const DialPlan& plan,
                    Nanos deadline) {
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(plan.timeout);
  if (rdma_resolve_route(&id, static_cast<int>(timeout.count())) != 0) {
    return CmFailure("find a route to " + NameOf(plan), errno);
  }
  FAULTLINE_TRY(Expect(events, RDMA_CM_EVENT_ROUTE_RESOLVED, "finding a route to", plan, deadline));
  return {};
}

Status Connect(rdma_event_channel& events, rdma_cm_id& id, const DeviceLimits& limits,
               const DialPlan& plan, const wire::LaneIdentity& lane, Nanos deadline) {
  const wire::ConnectWords words = wire::MakeConnectWords(lane);
  rdma_conn_param parameters = ConnectionParameters(limits);
  parameters.private_data = &words;
  parameters.private_data_len = sizeof words;
  if (rdma_connect(&id, &parameters) != 0) return CmFailure("connect to " + NameOf(plan), errno);
  FAULTLINE_TRY(Expect(events, RDMA_CM_EVENT_ESTABLISHED, "connecting to", plan, deadline));
  return {};
}

}  // namespace

Result<Reader> OpenReader(const DialPlan& plan) {
  FAULTLINE_ASSIGN(const EventChannel events, MakeEventChannel());
  FAULTLINE_ASSIGN(const ConnectionId id, MakeConnectionId(*events));
  FAULTLINE_TRY(ResolveAddress(*events, *id, plan, MonotonicNow() + plan.timeout));
  Reader reader;
  reader.device = id->verbs;
  FAULTLINE_ASSIGN(reader.limits, LimitsOf(id->verbs, id->port_num));
  FAULTLINE_ASSIGN(reader.domain, MakeProtectionDomain(id->verbs));
  return reader;
}

Result<Connection> Dial(const Reader& reader, const DialPlan& plan,
                        const wire::LaneIdentity& lane) {
  const Nanos deadline = MonotonicNow() + plan.timeout;
  Connection made;
  FAULTLINE_ASSIGN(made.events, MakeEventChannel());
  FAULTLINE_ASSIGN(made.completions, MakeCompletionEvents(reader.device));
  FAULTLINE_ASSIGN(made.queue,
                   MakeCompletionQueue(reader.device, kCompletionDepth, made.completions.get()));
  FAULTLINE_ASSIGN(made.id, MakeConnectionId(*made.events));
  FAULTLINE_TRY(SetOptions(*made.id, plan.type_of_service));
  FAULTLINE_TRY(ResolveAddress(*made.events, *made.id, plan, deadline));
  if (made.id->verbs != reader.device) {
    return Fail(ErrorKind::kSystem,
                fmt::format("RDMA: the way to {} leads over {} now, not {}", NameOf(plan),
                            rdma::NameOf(made.id->verbs), reader.limits.device));
  }
  FAULTLINE_TRY(ResolveRoute(*made.events, *made.id, plan, deadline));
  FAULTLINE_TRY(MakeReadingQueuePair(*made.id, *reader.domain, *made.queue));
  FAULTLINE_TRY(Connect(*made.events, *made.id, reader.limits, plan, lane, deadline));
  return made;
}

}  // namespace faultline::rdma
