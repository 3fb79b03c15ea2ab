// The source's part of one-sided READs: guest RAM is registered and offered while the guest runs,
// and vouched for once it is stopped. Whatever goes wrong here before the switch ends in pages over
// TCP, or, where the operator insists on RDMA, in a migration that has not begun.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "engine/app/interrupt.h"
#include "engine/app/source_session.h"
#include "rdma/device.h"

namespace faultline {
namespace {

constexpr Nanos kSayEvery = std::chrono::seconds(1);

double Mebi(ByteCount bytes) { return static_cast<double>(bytes.value()) / (1024.0 * 1024.0); }

}  // namespace

Status SourceSession::OfferReads() {
  if (options_.rdma.transport == Transport::kTcp) return {};
  if (const Status made = MakeReadable(); !made.has_value()) return DoWithoutReads(made.error());
  const std::vector<wire::RdmaRegion>& regions = readable_->regions();
  for (size_t sent = 0; sent < regions.size(); sent += wire::kRdmaRegionsPerFrameMax) {
    const size_t count = std::min(regions.size() - sent, wire::kRdmaRegionsPerFrameMax);
    FAULTLINE_TRY(link_->Send(wire::FrameType::kRdmaRegions,
                              wire::EncodeRdmaRegions(std::span(regions).subspan(sent, count))));
  }
  return link_->Send(wire::FrameType::kRdmaOffer, wire::EncodeRdmaOffer(readable_->offer()));
}

/// The guest runs on meanwhile.
Status SourceSession::MakeReadable() {
  const Nanos start = clock_.Now();
  FAULTLINE_ASSIGN(const rdma::DeviceAddress address,
                   rdma::ChooseAddress(options_.rdma.device, local_host_));
  FAULTLINE_ASSIGN(
      readable_,
      ReadableRam::Create({.address = address, .port = options_.rdma.port, .migration = migration_},
                          vm_.description(), *ram_));
  Nanos said_at = start;
  const auto look = [&]() -> Status {
    FAULTLINE_TRY(CheckLink(Nanos::max()));
    if (clock_.Now() - said_at < kSayEvery) return {};
    said_at = clock_.Now();
    // Names no region: a sign of life, or the destination would give us up.
    FAULTLINE_TRY(link_->Send(wire::FrameType::kRdmaRegions));
    progress_.Step(fmt::format("registering guest RAM with {}: {:.0f} MiB so far",
                               readable_->device(), Mebi(readable_->pinned())));
    return {};
  };
  FAULTLINE_TRY(readable_->Register(extents_, look));
  numbers_.reading = {.device = readable_->device(),
                      .pinned = readable_->pinned(),
                      .registering = clock_.Now() - start};
  progress_.Step(fmt::format("{:.0f} MiB of guest RAM may be read over {}, in {} regions",
                             Mebi(readable_->pinned()), readable_->device(),
                             readable_->regions().size()));
  return {};
}

/// Whether the destination reads. Comes before Prepared.
Status SourceSession::TakeAnswer() {
  if (!readable_) return {};
  FAULTLINE_ASSIGN(const Message frame, AwaitPreparing(wire::FrameType::kRdmaAnswer));
  FAULTLINE_ASSIGN(const std::string why_not, wire::DecodeRdmaAnswer(frame.body));
  if (why_not.empty()) return {};
  return DoWithoutReads({ErrorKind::kRefused, "the destination says: " + why_not});
}

Status SourceSession::DoWithoutReads(const Error& why) {
  StopReads();
  readable_.reset();
  numbers_.reading = {};
  if (Interrupted() || !link_->connected() || options_.rdma.transport == Transport::kRdma) {
    return tl::make_unexpected(why);
  }
  spdlog::warn("{}; pages go over TCP", why.message);
  return {};
}

/// A failure here costs the source's processor time and nothing else: what is not vouched for is
/// asked for over TCP.
void SourceSession::SendCurrent() {
  KeepOff keep_off(fault_cores_);
  const auto send = [&](const std::vector<PageRun>& runs) {
    keep_off.Look();
    return SendRuns(wire::FrameType::kRdmaCurrent, runs);
  };
  if (const Status sent = readable_->VisitCurrent(send); !sent.has_value()) {
    spdlog::debug("{}", sent.error().message);
  }
}

void SourceSession::StopReads() {
  if (readable_) readable_->Stop();
}

}  // namespace faultline
