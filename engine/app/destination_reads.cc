// The destination's part of one-sided READs: takes the source's offer, dials its queue pairs, and
// answers; later it is told what may be read. Without an offer, or where it comes to nothing, pages
// come over TCP.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "engine/app/destination_session.h"
#include "rdma/device.h"

namespace faultline {

bool DestinationSession::MayRead() const {
  return options_.rdma.transport != Transport::kTcp && rdma::HasDevices();
}

Status DestinationSession::TakeRdmaRegions(const Frame& frame) {
  if (!AreAttached() || rdma_offer_ || phase() != DestinationPhase::kPreparing) {
    return NotNow(frame.type);
  }
  FAULTLINE_ASSIGN(const auto regions, wire::DecodeRdmaRegions(frame.body, pages_->geometry()));
  for (const wire::RdmaRegion& region : regions) {
    const bool rises = rdma_regions_.empty() || rdma_regions_.back().run.end() <= region.run.first;
    if (!rises || rdma_regions_.size() == wire::kRdmaRegionsMax) return NotNow(frame.type);
    rdma_regions_.push_back(region);
  }
  return {};
}

Status DestinationSession::TakeRdmaOffer(const Frame& frame) {
  if (!AreAttached() || rdma_offer_ || phase() != DestinationPhase::kPreparing) {
    return NotNow(frame.type);
  }
  FAULTLINE_ASSIGN(rdma_offer_, wire::DecodeRdmaOffer(frame.body));
  return {};
}

Status DestinationSession::TakeRdmaCurrent(const Frame& frame) {
  if (!AreAttached()) return NotNow(frame.type);
  FAULTLINE_ASSIGN(const auto runs, wire::DecodeRuns(frame.body, pages_->geometry()));
  pages_->MarkCurrent(runs);
  return {};
}

/// The source waits for it, and decides what becomes of a no.
Status DestinationSession::AnswerOffer() {
  if (!rdma_offer_) {
    if (options_.rdma.transport != Transport::kRdma) return {};
    return Fail(ErrorKind::kRefused,
                "this `receive` insists on RDMA and the source does not offer it: start `migrate` "
                "with --transport rdma");
  }
  const Status done = AcceptOffer();
  if (!done.has_value()) spdlog::warn("{}; pages come over TCP", done.error().message);
  const std::string why_not = done.has_value() ? "" : done.error().message;
  FAULTLINE_TRY(link_->Send(wire::FrameType::kRdmaAnswer, wire::EncodeRdmaAnswer(why_not)));
  if (!done.has_value() && options_.rdma.transport == Transport::kRdma) return done;
  if (done.has_value()) progress_.Step("pages are read from the source by RDMA");
  return {};
}

Status DestinationSession::AcceptOffer() {
  if (options_.rdma.transport == Transport::kTcp) {
    return Fail(ErrorKind::kRefused, "this `receive` was told --transport tcp");
  }
  FAULTLINE_ASSIGN(const rdma::DeviceAddress ours, rdma::ChooseAddress(options_.rdma.device, ""));
  ReadLanes::Plan plan;
  plan.dial.host = rdma_offer_->host;
  plan.dial.port = rdma_offer_->port;
  // Without a name the route decides.
  if (!options_.rdma.device.empty()) plan.dial.from_host = ours.host;
  plan.urgent_type_of_service = options_.rdma.urgent_type_of_service;
  plan.bulk_type_of_service = options_.rdma.bulk_type_of_service;
  plan.migration = *migration_;
  plan.regions = std::move(rdma_regions_);
  return pages_->ReadFrom(std::move(plan));
}

}  // namespace faultline
