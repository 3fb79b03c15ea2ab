// The source's side of queue pairs: accepts those of its migration and keeps them while they live.
// READs are answered by the device; this thread sleeps.
//
// A lane that is dialled again comes with a higher generation: the one before it is destroyed
// first. Who does not know the migration's id, or comes with an old generation, is rejected.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "engine/core/rdma_wire.h"
#include "engine/core/result.h"
#include "rdma/cm.h"
#include "rdma/device.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

class Answerer {
 public:
  struct Plan {
    DeviceAddress address;  ///< of ChooseAddress
    uint16_t port = 0;      ///< 0: any free one
    wire::MigrationId migration{};
  };

  /// Listens, and answers from then on. The error is one line: no device at the address, no right.
  static Result<std::unique_ptr<Answerer>> Create(const Plan& plan);
  Answerer(const Answerer&) = delete;
  Answerer& operator=(const Answerer&) = delete;
  ~Answerer() { Stop(); }

  /// Ends every queue pair and joins. Memory regions made on domain() may go afterwards, or before:
  /// their keys are dead then, and READs of them fail.
  void Stop();

  [[nodiscard]] ibv_pd* domain() const { return domain_.get(); }
  [[nodiscard]] const DeviceLimits& limits() const { return limits_; }
  [[nodiscard]] const std::string& host() const { return plan_.address.host; }
  [[nodiscard]] uint16_t port() const { return port_; }
  /// Queue pairs that are connected now.
  [[nodiscard]] size_t lane_count() const;
  /// Ends every queue pair now; the peer may dial again. For tests, and to shed a peer.
  void BreakLanes();

 private:
  using LaneKey = std::pair<LaneKind, uint32_t>;
  struct Lane {
    ConnectionId id;
    uint64_t generation = 0;
  };

  Answerer(Plan plan, EventChannel events, ConnectionId listener);
  Status Listen();
  void Run();
  void TakeEvents();
  void TakeRequest(const rdma_cm_event& event);
  Status Accept(ConnectionId& id, const rdma_cm_event& event);
  void Drop(const rdma_cm_id* id);

  const Plan plan_;
  uint16_t port_ = 0;
  DeviceLimits limits_;
  EventChannel events_;
  ProtectionDomain domain_;
  CompletionQueue queue_;  ///< nothing completes here; a queue pair must have one
  ConnectionId listener_;
  mutable std::mutex mutex_;  ///< guards all below
  std::map<LaneKey, uint64_t> generations_;
  std::map<LaneKey, Lane> lanes_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline::rdma
