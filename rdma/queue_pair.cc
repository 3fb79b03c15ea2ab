#include "rdma/queue_pair.h"

#include <algorithm>
#include <cerrno>

namespace faultline::rdma {
namespace {

Status Make(rdma_cm_id& id, ibv_pd& domain, ibv_cq& queue, uint32_t depth) {
  ibv_qp_init_attr attributes{};
  attributes.send_cq = &queue;
  attributes.recv_cq = &queue;
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap = {.max_send_wr = depth,
                    .max_recv_wr = 1,
                    .max_send_sge = 1,  // soft iWARP allows a READ no more
                    .max_recv_sge = 1,
                    .max_inline_data = 0};
  attributes.sq_sig_all = 0;
  if (rdma_create_qp(&id, &domain, &attributes) != 0) {
    return VerbsFailure("make a queue pair", id.verbs, errno);
  }
  return {};
}

}  // namespace

Status MakeReadingQueuePair(rdma_cm_id& id, ibv_pd& domain, ibv_cq& queue) {
  return Make(id, domain, queue, kSendDepth);
}

Status MakeAnsweringQueuePair(rdma_cm_id& id, ibv_pd& domain, ibv_cq& queue) {
  return Make(id, domain, queue, 1);
}

rdma_conn_param ConnectionParameters(const DeviceLimits& limits) {
  rdma_conn_param parameters{};
  parameters.initiator_depth = std::min(limits.reads_out, kReadsOnWireMax);
  parameters.responder_resources = std::min(limits.reads_in, kReadsOnWireMax);
  parameters.retry_count = kRetryCount;
  parameters.rnr_retry_count = kRetryCount;
  return parameters;
}

Status SetOptions(rdma_cm_id& id, uint8_t type_of_service) {
  uint8_t timeout = kAckTimeout;
  // iWARP has no such thing: TCP below it has its own.
  const int failed =
      rdma_set_option(&id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof timeout);
  if (failed != 0 && errno != ENOSYS && errno != EINVAL && errno != EOPNOTSUPP) {
    return CmFailure("set the acknowledgement timeout", errno);
  }
  if (type_of_service == 0) return {};
  if (rdma_set_option(&id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &type_of_service,
                      sizeof type_of_service) != 0) {
    return CmFailure("set the type of service", errno);
  }
  return {};
}

}  // namespace faultline::rdma
