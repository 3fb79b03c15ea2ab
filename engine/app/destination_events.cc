// What reaches the destination's session from outside: connections and frames.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "engine/app/destination_session.h"

namespace faultline {

/// The first control connection names the migration; everything else has to belong to it.
wire::PreambleStatus DestinationSession::Judge(const LaneIntroduction& introduction) {
  const std::lock_guard lock(mutex_);
  const bool control = introduction.lane == LaneKind::kControl;
  if (!migration_)
    return control ? wire::PreambleStatus::kAccepted : wire::PreambleStatus::kUnknownMigration;
  if (introduction.migration != *migration_) {
    return control ? wire::PreambleStatus::kBusy : wire::PreambleStatus::kUnknownMigration;
  }
  const uint32_t streams =
      introduction.lane == LaneKind::kUrgent || !hello_ ? FaultShards() : hello_->bulk_streams;
  if (!control && (!pages_ || introduction.stream >= streams)) {
    return wire::PreambleStatus::kUnknownMigration;
  }
  const auto known = generations_.find({introduction.lane, introduction.stream});
  const bool stale = known != generations_.end() && introduction.generation <= known->second;
  return stale ? wire::PreambleStatus::kStaleGeneration : wire::PreambleStatus::kAccepted;
}

void DestinationSession::Take(const LaneIntroduction& introduction, Connection connection) {
  DestinationPages* pages = nullptr;
  {
    const std::lock_guard lock(mutex_);
    migration_ = introduction.migration;
    generations_[{introduction.lane, introduction.stream}] = introduction.generation;
    pages = pages_.get();
  }
  if (introduction.lane == LaneKind::kControl) {
    inbox_.Restored();
    link_->Connect(std::move(connection.socket), connection.peer);
    if (phase() == DestinationPhase::kPaused) Advance(DestinationEvent::kLinkBack);
    progress_.Step(fmt::format("connected to {}", connection.peer));
  } else {
    pages->GiveLane(introduction.lane, introduction.stream, std::move(connection.socket));
  }
}

void DestinationSession::OnLost(const Error& error) {
  spdlog::debug("{}", error.message);
  if (phase() == DestinationPhase::kRunning) {
    Advance(DestinationEvent::kLinkLost);
    spdlog::warn("the source is out of reach; the guest runs on, its missing pages wait");
  }
  inbox_.Lost(error);
}

void DestinationSession::OnFrame(const Frame& frame) {
  heard_at_.store(clock_.Now().count());
  const Status done = ActOn(frame);
  if (done.has_value()) return;
  spdlog::error("{}", done.error().message);
  inbox_.Lost(done.error());
}

/// Frames that move things are acted on here, in their order on the wire; steps of the hand-over
/// go to the main thread.
Status DestinationSession::ActOn(const Frame& frame) {
  using enum wire::FrameType;
  switch (frame.type) {
    case kHello:
    case kExtentsDone:
    case kEarlyDone:
    case kFarewell:
    case kAbort:
    case kRefuse:
      inbox_.Put(frame);
      return {};
    case kGo:
      // Said again after a lost link: the answer may have been lost with it.
      if (MayHaveRun(phase())) return link_->Send(kStarted);
      inbox_.Put(frame);
      return {};
    case kExtents:
      return TakeExtents(frame);
    case kFirstPages:
      return TakeFirstPages(frame);
    case kEarlyPages:
      return TakeEarlyPages(frame);
    case kUnchanged:
      return TakeUnchanged(frame);
    case kDeviceState:
      return TakeDeviceState(frame);
    case kStopped:
      return TakeStopped();
    case kSaved:
      return TakeSaved();
    case kHoles:
      return TakeHoles(frame);
    case kHolesDone:
      return {};
    case kRdmaRegions:
      return TakeRdmaRegions(frame);
    case kRdmaOffer:
      return TakeRdmaOffer(frame);
    case kRdmaCurrent:
      return TakeRdmaCurrent(frame);
    default:
      return Fail(ErrorKind::kPeer, fmt::format("the peer broke the protocol: {} is not for a "
                                                "destination",
                                                wire::Name(frame.type)));
  }
}

Status DestinationSession::NotNow(wire::FrameType type) const {
  return Fail(ErrorKind::kPeer, fmt::format("the peer broke the protocol: {} while {}",
                                            wire::Name(type), Name(phase())));
}

Status DestinationSession::TakeExtents(const Frame& frame) {
  if (!AreAttached() || phase() != DestinationPhase::kPreparing) return NotNow(frame.type);
  FAULTLINE_ASSIGN(const auto runs, wire::DecodeRuns(frame.body, pages_->geometry()));
  for (const PageRun& run : runs) {
    // Rising over all frames, so that the sum is bounded by the guest's size.
    if (!extents_.empty() && run.first < extents_.back().end()) return NotNow(frame.type);
    extents_.push_back(run);
  }
  return {};
}

/// Only before the lanes are open, so that no pusher uses the order yet. A source that has not
/// heard yet that we gave up does nothing wrong.
Status DestinationSession::TakeFirstPages(const Frame& frame) {
  if (phase() == DestinationPhase::kFailed) return {};
  if (!TakesEarly()) return NotNow(frame.type);
  FAULTLINE_ASSIGN(const auto runs, wire::DecodeRuns(frame.body, pages_->geometry()));
  pages_->PutFirst(runs);
  return {};
}

/// Only while the source's guest runs: no lane is open, so nobody fetches these pages.
Status DestinationSession::TakeEarlyPages(const Frame& frame) {
  if (phase() == DestinationPhase::kFailed) return {};
  if (!TakesEarly()) return NotNow(frame.type);
  FAULTLINE_ASSIGN(const wire::EarlyPages early,
                   wire::DecodeEarlyPages(frame.body, pages_->geometry()));
  pages_->LandEarly(early.run, early.bytes);
  return {};
}

/// Only once the source's guest is stopped: before, no page of it is what it will be.
Status DestinationSession::TakeUnchanged(const Frame& frame) {
  if (!AreAttached() || !pages_->is_open()) return NotNow(frame.type);
  FAULTLINE_ASSIGN(auto runs, wire::DecodeRuns(frame.body, pages_->geometry()));
  return maps_->AddUnchanged(std::move(runs)) ? Status() : NotNow(frame.type);
}

Status DestinationSession::TakeDeviceState(const Frame& frame) {
  if (!device_stream_.opened()) return NotNow(frame.type);
  if (phase() == DestinationPhase::kPreparing) Advance(DestinationEvent::kDeviceState);
  device_stream_.Deliver(frame.body);
  return {};
}

/// What a page of the source holds is final from here on: fault lanes may fetch. All else leaves
/// the processors to the devices' saving and loading, which is the blackout.
Status DestinationSession::TakeStopped() {
  if (!AreAttached()) return NotNow(wire::FrameType::kStopped);
  pages_->MakeWay();
  pages_->Open();
  return {};
}

/// Of two processors that source and destination may share, the devices' loading needs one: what
/// the guest needs first comes beside it.
Status DestinationSession::TakeSaved() {
  if (!AreAttached() || !pages_->is_open()) return NotNow(wire::FrameType::kSaved);
  pages_->OpenBulk();
  return {};
}

Status DestinationSession::TakeHoles(const Frame& frame) {
  if (!AreAttached()) return NotNow(frame.type);
  FAULTLINE_ASSIGN(auto runs, wire::DecodeRuns(frame.body, pages_->geometry()));
  return maps_->AddHoles(std::move(runs)) ? Status() : NotNow(frame.type);
}

/// The source's guest still runs, and no lane is open.
bool DestinationSession::TakesEarly() {
  return AreAttached() && phase() == DestinationPhase::kPreparing && !pages_->is_open();
}

bool DestinationSession::AreAttached() {
  const std::lock_guard lock(mutex_);
  return pages_ != nullptr;
}

}  // namespace faultline
