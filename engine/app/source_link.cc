// The source's session and the outside: its link, its frames, and the way back before the commit.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "engine/app/hole_map.h"
#include "engine/app/interrupt.h"
#include "engine/app/source_session.h"
#include "engine/core/check.h"

namespace faultline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Nanos kAbortDialTimeout = seconds(2);
constexpr Nanos kRedialPause = milliseconds(200);

}  // namespace

Status SourceSession::DialControl(Nanos timeout) {
  FAULTLINE_ASSIGN(Connection connection, Dial(to_, {.timeout = timeout}));
  ++control_generation_;
  local_host_ = LocalHost(connection.socket.get());
  FAULTLINE_TRY(Introduce(
      connection.socket.get(),
      {.lane = LaneKind::kControl, .generation = control_generation_, .migration = migration_},
      connection.peer));
  inbox_.Restored();
  link_->Connect(std::move(connection.socket), connection.peer);
  return {};
}

/// After the commit, whenever the message waited for did not come: for whatever reason, go on.
void SourceSession::KeepLink(const Error& error) {
  if (Interrupted()) {
    ForgetInterrupt();
    spdlog::warn("not stopping: this process holds pages that the guest still misses");
  }
  if (!link_->connected()) {
    Redial();
  } else if (error.kind != ErrorKind::kTimeout) {
    spdlog::debug("{}", error.message);
    std::this_thread::sleep_for(kRedialPause);
  }
}

/// One attempt to get the link back, after the commit. The caller tries for as long as it takes.
void SourceSession::Redial() {
  const Status dialled = DialControl(kDialTimeout);
  if (!dialled.has_value()) {
    spdlog::debug("{}", dialled.error().message);
    std::this_thread::sleep_for(kRedialPause);
    return;
  }
  spdlog::info("connected again to {}", to_.ToString());
  ++numbers_.retries;
  if (phase() == SourcePhase::kPaused) Advance(SourceEvent::kLinkBack);
  // Go may have been lost with the link. A destination that has it answers Started again.
  if (const Status sent = link_->Send(wire::FrameType::kGo); !sent.has_value()) {
    spdlog::debug("{}", sent.error().message);
  }
}

/// Before the commit: the link is there, nobody interrupts, and it does not take for ever.
Status SourceSession::CheckLink(Nanos deadline) {
  if (Interrupted()) return Fail(ErrorKind::kRefused, "interrupted by a signal");
  if (inbox_.failed()) {
    // The peer's own words, if it sent any, come before the bare loss.
    const Result<Message> last = inbox_.Await(wire::FrameType::kStarted, Nanos{0});
    if (!last.has_value()) return tl::make_unexpected(last.error());
    return Fail(ErrorKind::kPeer, "the destination closed the connection");
  }
  if (clock_.Now() < deadline) return {};
  return Fail(ErrorKind::kTimeout, "the destination does not answer");
}

/// A destination that has loaded waits for Go until it hears otherwise: over a new connection if
/// the old one is lost.
void SourceSession::SendAbort(const std::string& why) {
  if (!link_->connected() && phase() == SourcePhase::kSwitching) {
    static_cast<void>(DialControl(kAbortDialTimeout));
  }
  static_cast<void>(link_->SendText(wire::FrameType::kAbort, why));
}

ExitCode SourceSession::GiveUp(const Error& error) {
  FAULTLINE_CHECK(MayResume(phase()));
  device_stream_.Stop();
  const bool touched = phase() == SourcePhase::kSwitching;
  const Status undone = touched ? vm_.Resume() : vm_.Restore();
  if (undone.has_value()) {
    spdlog::error("migrate: {}; the guest runs on here", error.message);
  } else if (touched) {
    spdlog::error("migrate: {}; then resuming the guest failed: {}; run `cont` in its monitor",
                  error.message, undone.error().message);
  } else {
    spdlog::error("migrate: {}; the guest runs on here, with QEMU's settings for migrations: {}",
                  error.message, undone.error().message);
  }
  SendAbort(error.message);
  Advance(SourceEvent::kFailure);
  for (const auto& lane : lanes_) lane->Stop();
  link_->Stop();
  JoinScans();
  StopReads();
  numbers_.result = "failed";
  numbers_.total = clock_.Now() - started_at_;
  static_cast<void>(WriteSummary(options_.common.json_path,
                                 MergeSummary(SourcePart(numbers_), SummaryJson::object())));
  return ExitCode::kNothingChanged;
}

Status SourceSession::SendRuns(wire::FrameType type, const std::vector<PageRun>& runs) {
  for (size_t sent = 0; sent < runs.size(); sent += wire::kRunsPerFrameMax) {
    const size_t count = std::min(runs.size() - sent, wire::kRunsPerFrameMax);
    FAULTLINE_TRY(link_->Send(type, wire::EncodeRuns(std::span(runs).subspan(sent, count))));
  }
  return {};
}

/// The final map. Until it has arrived the destination asks for holes too, and is told zero; so a
/// failure here costs time and nothing else.
void SourceSession::SendHoles() {
  KeepOff(fault_cores_).Look();
  const Result<std::vector<PageRun>> data = ram_->DataRuns();
  if (!data.has_value()) {
    spdlog::warn("{}", data.error().message);
    return;
  }
  presence_->Finish(*data);
  Status sent = SendRuns(wire::FrameType::kHoles, HolesBetween(*geometry_, *data));
  if (sent.has_value()) sent = link_->Send(wire::FrameType::kHolesDone);
  if (!sent.has_value()) spdlog::debug("{}", sent.error().message);
}

void SourceSession::JoinScans() {
  if (hole_scan_.joinable()) hole_scan_.join();
  if (after_stop_.joinable()) after_stop_.join();
  if (current_scan_.joinable()) current_scan_.join();  // after the thread that starts it
}

void SourceSession::OnFrame(const Frame& frame) {
  heard_at_.store(clock_.Now().count());
  switch (frame.type) {
    case wire::FrameType::kDeviceState:
      device_stream_.Deliver(frame.body);
      return;
    case wire::FrameType::kProgress: {
      const Result<wire::ProgressBody> body = wire::DecodeProgress(frame.body);
      if (body.has_value()) progress_.Update(*body, clock_.Now());
      return;
    }
    default:
      inbox_.Put(frame);
  }
}

void SourceSession::OnLost(const Error& error) {
  spdlog::debug("{}", error.message);
  if (!MayResume(phase()) && phase() != SourcePhase::kReleased) {
    Advance(SourceEvent::kLinkLost);
    spdlog::warn("the destination is out of reach; dialling again");
  }
  inbox_.Lost(error);
}

}  // namespace faultline
