// Queue pairs as both sides make them, and the limits that hold them together.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/core/result.h"
#include "rdma/cm.h"
#include "rdma/device.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

/// READs posted and not yet reaped on one lane.
inline constexpr int kReadsMax = 256;
inline constexpr int kSendDepth = kReadsMax;
inline constexpr int kCompletionDepth = kReadsMax;
static_assert(kSendDepth >= kReadsMax, "a READ has a slot of the send queue until it is reaped");
static_assert(kCompletionDepth >= kReadsMax, "also when every one is flushed with an error");

/// READs that the wire carries at once; the device queues what is beyond.
inline constexpr uint8_t kReadsOnWireMax = 16;
static_assert(kReadsOnWireMax < kReadsMax);

/// Attempts to reach the peer before the queue pair goes to error. 7 means for ever on soft RoCE.
inline constexpr uint8_t kRetryCount = 6;
static_assert(kRetryCount < 7);
/// 4.096 µs << 16 = 0.27 s for each attempt: an error after 1.8 s. 14 (0.4 s) is too tight where
/// virtual machines pause.
inline constexpr uint8_t kAckTimeout = 16;

/// The destination's: READs go out, completions come on `queue`.
Status MakeReadingQueuePair(rdma_cm_id& id, ibv_pd& domain, ibv_cq& queue);
/// The source's: it answers and has no work of its own. `queue` is only there because there must
/// be one.
Status MakeAnsweringQueuePair(rdma_cm_id& id, ibv_pd& domain, ibv_cq& queue);

/// What a dialling or an accepting side asks for; `limits` of its own device.
rdma_conn_param ConnectionParameters(const DeviceLimits& limits);

/// Before connecting. `type_of_service`: RFC 2474, also the service level on InfiniBand; 0 is the
/// network's own default.
Status SetOptions(rdma_cm_id& id, uint8_t type_of_service);

}  // namespace faultline::rdma
