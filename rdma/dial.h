// The destination's way to a queue pair: address → route → queue pair → connected, every step
// bounded in time.
#pragma once

#include <string>

#include "engine/core/rdma_wire.h"
#include "engine/core/result.h"
#include "rdma/cm.h"
#include "rdma/device.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

/// What all lanes of a migration share at the destination.
struct Reader {
  DeviceContext device = nullptr;
  DeviceLimits limits;
  ProtectionDomain domain;
};

/// A connected queue pair. In the order in which each needs the ones before it.
struct Connection {
  EventChannel events;
  CompletionEvents completions;
  CompletionQueue queue;
  ConnectionId id;  ///< with the queue pair: goes first
};

struct DialPlan {
  std::string host{};  ///< of the source, numeric
  uint16_t port = 0;
  std::string from_host{};  ///< address of the device to use; empty: the route decides
  uint8_t type_of_service = 0;
  Nanos timeout = std::chrono::seconds(5);
};

/// The device that leads to the source, opened for reading.
Result<Reader> OpenReader(const DialPlan& plan);
/// A connection for `lane`. `reader` outlives it. Errors name the address and the step.
Result<Connection> Dial(const Reader& reader, const DialPlan& plan, const wire::LaneIdentity& lane);

}  // namespace faultline::rdma
