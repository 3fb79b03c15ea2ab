#include "engine/app/source_session.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>

#include "engine/app/interrupt.h"
#include "engine/core/check.h"

namespace faultline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Nanos kSlice = milliseconds(50);  ///< how late a lost link is noticed
constexpr Nanos kWelcomeTimeout = seconds(60);
constexpr Nanos kSilenceMax = seconds(30);      ///< while the destination makes room
constexpr Nanos kSwitchTimeout = seconds(120);  ///< from the first device byte to Loaded

/// QEMU's events carry this host's wall clock.
int64_t WallMicros() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(since_epoch).count();
}

wire::MigrationId RandomId() {
  wire::MigrationId id{};
  FAULTLINE_CHECK(getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()));
  return id;
}

}  // namespace

SourceSession::SourceSession(const MigrateOptions& options, QemuSource& vm, Endpoint to)
    : options_(options),
      vm_(vm),
      to_(std::move(to)),
      progress_(options.common.quiet),
      migration_(RandomId()),
      started_at_(clock_.Now()),
      link_(std::make_unique<ControlLink>([this](const Frame& frame) { OnFrame(frame); },
                                          [this](const Error& error) { OnLost(error); })) {}

SourceSession::~SourceSession() {
  link_->Stop();
  JoinScans();
  StopReads();
}

ExitCode SourceSession::Run() {
  if (const Status prepared = Prepare(); !prepared.has_value()) return GiveUp(prepared.error());
  if (const Status moved = HandOver(); !moved.has_value()) return GiveUp(moved.error());
  // The point of no return is behind us: from here nothing fails, it only takes longer.
  AwaitStarted();
  ServePages();
  Release();
  return ExitCode::kDone;
}

Status SourceSession::Prepare() {
  FAULTLINE_TRY(OpenRam());
  FAULTLINE_TRY(Connect());
  // Before the extents: a destination that has no room for them says so, and closes its port.
  FAULTLINE_TRY(OpenLanes());
  FAULTLINE_TRY(OfferReads());
  FAULTLINE_TRY(SendExtents());
  return AwaitRoom();
}

Status SourceSession::HandOver() {
  FAULTLINE_TRY(StopGuest());
  FAULTLINE_TRY(MoveDevices());
  return Commit();
}

Status SourceSession::OpenRam() {
  FAULTLINE_ASSIGN(Geometry geometry, GeometryOf(vm_.description()));
  geometry_ = std::make_unique<const Geometry>(std::move(geometry));
  FAULTLINE_ASSIGN(GuestRam ram, GuestRam::Open(*geometry_, vm_.description(), RamAccess::kRead));
  ram_.emplace(std::move(ram));
  page_tables_.emplace(*ram_);
  FAULTLINE_ASSIGN(extents_, ram_->DataRuns());
  presence_ = std::make_unique<PresenceMap>(geometry_->page_count());
  MarkPresent(extents_, *presence_);
  return {};
}

Status SourceSession::Connect() {
  FAULTLINE_TRY(DialControl(kDialTimeout));
  const wire::Bytes hello =
      wire::EncodeHello({.geometry = *geometry_,
                         .bulk_streams = options_.streams,
                         .bulk_bytes_per_second = options_.bulk_bytes_per_second,
                         .compression = options_.compression});
  FAULTLINE_TRY(link_->Send(wire::FrameType::kHello, hello));
  LookAhead();
  FAULTLINE_ASSIGN(const Message frame, inbox_.Await(wire::FrameType::kWelcome, kWelcomeTimeout));
  FAULTLINE_ASSIGN(const wire::WelcomeBody welcome, wire::DecodeWelcome(frame.body));
  urgent_lanes_ = welcome.urgent_lanes;
  progress_.Step(fmt::format("connected to {}", to_.ToString()));
  return {};
}

Status SourceSession::OpenLanes() {
  const auto make_server = [this] {
    return std::make_unique<PageServer>(ram_->window(), *presence_, *ram_);
  };
  LaneIntroduction lane{.lane = LaneKind::kUrgent, .migration = migration_};
  for (lane.stream = 0; lane.stream < urgent_lanes_; ++lane.stream) {
    FAULTLINE_ASSIGN(auto urgent, LaneKeeper::Create(to_, lane, make_server, fault_cores_));
    lanes_.push_back(std::move(urgent));
  }
  lane.lane = LaneKind::kBulk;
  for (lane.stream = 0; lane.stream < options_.streams; ++lane.stream) {
    FAULTLINE_ASSIGN(auto bulk, LaneKeeper::Create(to_, lane, make_server, fault_cores_));
    lanes_.push_back(std::move(bulk));
  }
  return {};
}

/// What the guest has in memory now: the destination makes room for it while the guest runs.
Status SourceSession::SendExtents() {
  FAULTLINE_TRY(SendRuns(wire::FrameType::kExtents, extents_));
  extents_ = {};
  FAULTLINE_TRY(link_->Send(wire::FrameType::kExtentsDone));
  heard_at_.store(clock_.Now().count());
  return {};
}

/// The destination makes room; meanwhile all is done that can be done before the stop.
Status SourceSession::AwaitRoom() {
  CopyFirstPages();
  FAULTLINE_TRY(TakeAnswer());
  FAULTLINE_TRY(vm_.SetUp());
  FAULTLINE_TRY(SendFirstPages());
  FAULTLINE_TRY(AwaitPreparing(wire::FrameType::kPrepared));
  return CheckLink(Nanos::max());  // the last moment at which nothing has been touched
}

/// While the destination makes ready it gives signs of life, however long it takes.
Result<Message> SourceSession::AwaitPreparing(wire::FrameType type) {
  while (true) {
    Result<Message> frame = inbox_.Await(type, kSlice);
    if (frame.has_value() || frame.error().kind != ErrorKind::kTimeout) return frame;
    FAULTLINE_TRY(CheckLink(Nanos(heard_at_.load()) + kSilenceMax));
  }
}

Status SourceSession::StopGuest() {
  numbers_.prepare = clock_.Now() - started_at_;
  FAULTLINE_ASSIGN(const tcp::UniqueFd qemus, device_stream_.Open(*link_));
  const Nanos deadline = clock_.Now() + kSwitchTimeout;
  Advance(SourceEvent::kStopping);
  FAULTLINE_TRY(vm_.StartDeviceState(qemus.get()));
  while (true) {
    const Status stopped = vm_.WaitStopped(kSlice);
    if (stopped.has_value()) break;
    if (stopped.error().kind != ErrorKind::kTimeout) return stopped;
    FAULTLINE_TRY(CheckLink(deadline));
  }
  stopped_at_us_ = vm_.StoppedAt().value_or(WallMicros());
  return {};
}

/// The guest is stopped: pages are final, and the destination may ask for them from now on.
Status SourceSession::MoveDevices() {
  // The VMM first: everybody waits for its device state. A page that loading devices touch waits
  // until the lanes may ask.
  const ByteCount before = device_stream_.BytesCarried();
  FAULTLINE_TRY(vm_.ContinueDeviceState());
  FAULTLINE_TRY(link_->Send(wire::FrameType::kStopped));
  after_stop_ = std::thread([this, before] { SendWhatIsFinal(before); });
  const Nanos deadline = clock_.Now() + kSwitchTimeout;
  while (true) {
    const Result<Message> loaded = inbox_.Await(wire::FrameType::kLoaded, kSlice);
    if (loaded.has_value()) break;
    if (loaded.error().kind != ErrorKind::kTimeout) return tl::make_unexpected(loaded.error());
    FAULTLINE_TRY(CheckLink(deadline));
  }
  return vm_.WaitCompleted(std::max(deadline - clock_.Now(), Nanos(kSlice)));
}

/// QEMU says completed and cannot restart by itself; the destination has loaded. The guest is
/// given away here, whether Go arrives or has to be said again.
Status SourceSession::Commit() {
  if (Interrupted()) return Fail(ErrorKind::kRefused, "interrupted by a signal");
  if (!link_->connected()) return Fail(ErrorKind::kPeer, "the destination closed the connection");
  Advance(SourceEvent::kCommit);
  if (const Status sent = link_->Send(wire::FrameType::kGo); !sent.has_value()) {
    spdlog::warn("{}", sent.error().message);
  }
  return {};
}

void SourceSession::AwaitStarted() {
  while (true) {
    const Result<Message> started = inbox_.Await(wire::FrameType::kStarted, kSlice);
    if (started.has_value()) break;
    KeepLink(started.error());
  }
  numbers_.blackout = std::chrono::microseconds(WallMicros() - stopped_at_us_);
  Advance(SourceEvent::kStarted);
  // Only now: a walk over a fragmented file takes longer than the whole switch.
  hole_scan_ = std::thread([this] { SendHoles(); });
  progress_.Step("the guest runs at the destination");
}

void SourceSession::ServePages() {
  while (true) {
    const Result<Message> released = inbox_.Await(wire::FrameType::kReleased, kSlice);
    if (released.has_value()) {
      numbers_.total = clock_.Now() - started_at_;
      numbers_.result = "completed";
      Advance(SourceEvent::kReleased);
      destination_part_ = ParseSummary(released->body);
      return;
    }
    KeepLink(released.error());
  }
}

void SourceSession::Release() {
  JoinScans();
  numbers_.device_bytes = device_stream_.BytesCarried();
  for (const auto& lane : lanes_) {
    lane->Stop();
    numbers_.retries += lane->redials();
  }
  StopReads();
  const SummaryJson ours = SourcePart(numbers_);
  static_cast<void>(link_->SendText(wire::FrameType::kFarewell, ours.dump()));
  const SummaryJson summary = MergeSummary(ours, destination_part_);
  if (const Status written = WriteSummary(options_.common.json_path, summary);
      !written.has_value()) {
    spdlog::error("{}", written.error().message);
  }
  if (options_.quit_source) {
    if (const Status quit = vm_.Quit(); !quit.has_value()) {
      spdlog::warn("{}", quit.error().message);
    }
  }
  progress_.Step(DescribeSummary(summary));
}

}  // namespace faultline
