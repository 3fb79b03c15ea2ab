#include "rdma/answerer.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "rdma/queue_pair.h"

namespace faultline::rdma {
namespace {

constexpr int kBacklog = 32;
constexpr int kStopPollMs = 100;

wire::ByteView PrivateDataOf(const rdma_cm_event& event) {
  const rdma_conn_param& request = event.param.conn;
  const auto* const first = static_cast<const std::byte*>(request.private_data);
  return first == nullptr ? wire::ByteView() : wire::ByteView(first, request.private_data_len);
}

}  // namespace

Answerer::Answerer(Plan plan, EventChannel events, ConnectionId listener)
    : plan_(std::move(plan)), events_(std::move(events)), listener_(std::move(listener)) {}

Result<std::unique_ptr<Answerer>> Answerer::Create(const Plan& plan) {
  FAULTLINE_ASSIGN(EventChannel events, MakeEventChannel());
  FAULTLINE_ASSIGN(ConnectionId listener, MakeConnectionId(*events));
  std::unique_ptr<Answerer> answerer(new Answerer(plan, std::move(events), std::move(listener)));
  FAULTLINE_TRY(answerer->Listen());
  answerer->thread_ = std::thread([raw = answerer.get()] { raw->Run(); });
  pthread_setname_np(answerer->thread_.native_handle(), "fl-rdma");
  return answerer;
}

Status Answerer::Listen() {
  FAULTLINE_ASSIGN(SocketAddress at, SocketAddress::Of(plan_.address.host, plan_.port));
  if (rdma_bind_addr(listener_.get(), at.get()) != 0) {
    return CmFailure(fmt::format("listen on {} (is it the address of an RDMA device's interface?)",
                                 plan_.address.host),
                     errno);
  }
  if (listener_->verbs == nullptr) {
    return Fail(ErrorKind::kRefused,
                fmt::format("RDMA: {} is not the address of an RDMA device", plan_.address.host));
  }
  const std::string name = NameOf(listener_->verbs);
  if (!plan_.address.device.empty() && plan_.address.device != name) {
    return Fail(ErrorKind::kRefused, fmt::format("RDMA: {} belongs to the device {}, not to {}",
                                                 plan_.address.host, name, plan_.address.device));
  }
  FAULTLINE_ASSIGN(limits_, LimitsOf(listener_->verbs, listener_->port_num));
  FAULTLINE_ASSIGN(domain_, MakeProtectionDomain(listener_->verbs));
  FAULTLINE_ASSIGN(queue_, MakeCompletionQueue(listener_->verbs, 1, nullptr));
  if (rdma_listen(listener_.get(), kBacklog) != 0) {
    return CmFailure("listen on " + plan_.address.host, errno);
  }
  port_ = ntohs(rdma_get_src_port(listener_.get()));
  return {};
}

void Answerer::Run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    pollfd readable{.fd = events_->fd, .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, kStopPollMs) > 0) TakeEvents();
  }
}

void Answerer::TakeEvents() {
  while (CmEvent event = NextEvent(*events_)) {
    switch (event->event) {
      case RDMA_CM_EVENT_CONNECT_REQUEST:
        TakeRequest(*event);
        break;
      case RDMA_CM_EVENT_DISCONNECTED:
      case RDMA_CM_EVENT_CONNECT_ERROR:
      case RDMA_CM_EVENT_UNREACHABLE:
      case RDMA_CM_EVENT_DEVICE_REMOVAL: {
        const rdma_cm_id* const id = event->id;
        event.reset();  // given back first: an id goes only without events
        Drop(id);
        break;
      }
      default:
        break;
    }
  }
}

/// The new connection is ours from here on, whatever becomes of it. (The event counts for the
/// listener: the connection may go before it is given back.)
void Answerer::TakeRequest(const rdma_cm_event& event) {
  ConnectionId id(event.id);
  const Result<wire::LaneIdentity> lane = wire::ReadConnectWords(PrivateDataOf(event));
  const std::lock_guard lock(mutex_);
  const bool wanted = lane.has_value() && lane->migration == plan_.migration &&
                      id->verbs == listener_->verbs &&
                      lane->generation > generations_[{lane->lane, lane->stream}];
  if (!wanted) {
    (void)rdma_reject(id.get(), nullptr, 0);
    return;
  }
  const LaneKey key{lane->lane, lane->stream};
  lanes_.erase(key);
  generations_[key] = lane->generation;
  if (Accept(id, event).has_value()) lanes_[key] = {std::move(id), lane->generation};
}

Status Answerer::Accept(ConnectionId& id, const rdma_cm_event& event) {
  FAULTLINE_TRY(MakeAnsweringQueuePair(*id, *domain_, *queue_));
  rdma_conn_param parameters = ConnectionParameters(limits_);
  const rdma_conn_param& asked = event.param.conn;
  parameters.responder_resources =
      std::min(parameters.responder_resources, asked.responder_resources);
  parameters.initiator_depth = std::min(parameters.initiator_depth, asked.initiator_depth);
  if (rdma_accept(id.get(), &parameters) != 0) return CmFailure("accept a connection", errno);
  return {};
}

void Answerer::Drop(const rdma_cm_id* id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(lanes_, [id](const auto& lane) { return lane.second.id.get() == id; });
}

void Answerer::Stop() {
  stopping_.store(true, std::memory_order_release);
  if (thread_.joinable()) thread_.join();
  BreakLanes();
}

// A connection that is destroyed tells its peer by itself.
void Answerer::BreakLanes() {
  const std::lock_guard lock(mutex_);
  lanes_.clear();
}

size_t Answerer::lane_count() const {
  const std::lock_guard lock(mutex_);
  return lanes_.size();
}

}  // namespace faultline::rdma
