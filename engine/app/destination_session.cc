#include "engine/app/destination_session.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "engine/app/interrupt.h"

namespace faultline {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Nanos kSlice = milliseconds(200);    ///< how late a lost link or a signal is noticed
constexpr Nanos kSourceSilence = seconds(60);  ///< from Welcome to Prepared
constexpr Nanos kLoadTimeout = seconds(120);   ///< from Prepared to devices loaded
constexpr Nanos kGoPatience = minutes(10);     ///< how long a loaded guest waits for Go
constexpr Nanos kFarewellPatience = seconds(10);
constexpr Nanos kHangUpPatience = seconds(1);  ///< until the source has heard why it was refused
constexpr Nanos kProgressPeriod = milliseconds(100);
constexpr Nanos kPagesPollMin = milliseconds(1);
constexpr Nanos kPagesPollMax = milliseconds(10);

/// Sooner than it takes to copy what is missing nobody needs to look.
Nanos PagesPoll(PageCount missing) {
  constexpr Nanos kCopyOfAPage{250};
  const Nanos copied = static_cast<Nanos::rep>(missing.value()) * kCopyOfAPage;
  return std::clamp(copied, kPagesPollMin, kPagesPollMax);
}

double MillisSince(Nanos start, const Clock& clock) {
  return std::chrono::duration<double, std::milli>(clock.Now() - start).count();
}

}  // namespace

DestinationSession::DestinationSession(const ReceiveOptions& options, QemuDestination& vm,
                                       Listener listener)
    : options_(options),
      vm_(vm),
      progress_(options.common.quiet),
      link_(std::make_unique<ControlLink>([this](const Frame& frame) { OnFrame(frame); },
                                          [this](const Error& error) { OnLost(error); })) {
  LaneAcceptor::Callbacks callbacks{
      .judge = [this](const LaneIntroduction& lane) { return Judge(lane); },
      .take = [this](const LaneIntroduction& lane,
                     Connection connection) { Take(lane, std::move(connection)); }};
  acceptor_ = std::make_unique<LaneAcceptor>(std::move(listener), std::move(callbacks));
}

DestinationSession::~DestinationSession() {
  acceptor_->Stop();
  link_->Stop();
}

ExitCode DestinationSession::Run() {
  progress_.Step(fmt::format("waiting for a source on {}", acceptor_->endpoint().ToString()));
  if (const Status prepared = Prepare(); !prepared.has_value()) return GiveUp(prepared.error());
  if (const Status done = HandOver(); !done.has_value()) return GiveUp(done.error());
  if (const Status done = Release(); !done.has_value()) spdlog::warn("{}", done.error().message);
  WriteSummaryFile();
  progress_.Step(DescribeSummary(summary_));
  acceptor_->Stop();
  pages_->StopThreads();
  Afterwards();
  return ExitCode::kDone;
}

Status DestinationSession::Prepare() {
  // Before anybody waits, and while next to nothing is mapped: the kernel walks all that is.
  if (auto regions = RegionsForHugePages(vm_.description()); regions.has_value()) {
    huge_regions_ = *std::move(regions);
  }
  FAULTLINE_TRY(AwaitHello());
  FAULTLINE_TRY(CompareGuests());
  FAULTLINE_TRY(AttachPages());
  return MakeRoom();
}

Status DestinationSession::HandOver() {
  FAULTLINE_TRY(LoadDevices());
  FAULTLINE_TRY(AwaitGo());
  FAULTLINE_TRY(RunGuest());
  return AwaitPages();
}

/// The first source that says what it has. Until then nothing here has changed, and one that
/// goes away again is nobody's loss.
Status DestinationSession::AwaitHello() {
  while (true) {
    FAULTLINE_TRY(CheckAlive());
    const Result<Message> frame = inbox_.Await(wire::FrameType::kHello, kSlice);
    if (frame.has_value()) {
      FAULTLINE_ASSIGN(wire::Hello hello, wire::DecodeHello(frame->body));
      const std::lock_guard lock(mutex_);
      hello_.emplace(std::move(hello));
      return {};
    }
    if (frame.error().kind != ErrorKind::kTimeout) ForgetSource(frame.error());
  }
}

void DestinationSession::ForgetSource(const Error& error) {
  spdlog::warn("{}; still waiting for a source", error.message);
  const std::lock_guard lock(mutex_);
  migration_.reset();
  generations_.clear();
  inbox_.Restored();
}

Status DestinationSession::CompareGuests() {
  FAULTLINE_ASSIGN(const Geometry ours, GeometryOf(vm_.description()));
  const std::string difference = ours.DifferenceTo(hello_->geometry);
  if (difference.empty()) return {};
  return Fail(ErrorKind::kRefused,
              fmt::format("the destination's guest RAM differs from the source's: {}; start the "
                          "destination QEMU with the same -m and memory backends",
                          difference));
}

Status DestinationSession::AttachPages() {
  const Nanos start = clock_.Now();
  const IoPreference io = options_.common.io == "uring"   ? IoPreference::kUring
                          : options_.common.io == "epoll" ? IoPreference::kEpoll
                                                          : IoPreference::kBest;
  const PageLimits limits{.io = io,
                          .window = options_.window,
                          .bulk_bytes_per_second = hello_->bulk_bytes_per_second,
                          .streams = hello_->bulk_streams,
                          .fault_shards = FaultShards(),
                          .may_read = MayRead(),
                          .compression = hello_->compression};
  const auto unprivileged = [this](const TargetProcess& process) {
    return AttachOverQmp(vm_.qmp(), process);
  };
  FAULTLINE_ASSIGN(auto pages,
                   DestinationPages::Create(vm_.description(), unprivileged, hello_->geometry,
                                            options_.common.state_dir, limits));
  maps_ = std::make_unique<FinalMaps>(*pages);
  numbers_.attach_ms = MillisSince(start, clock_);
  {
    const std::lock_guard lock(mutex_);
    pages_ = std::move(pages);
  }
  progress_.Step(
      fmt::format("attached to {}, pid {}", vm_.description().version, vm_.description().pid));
  return link_->Send(wire::FrameType::kWelcome, wire::EncodeWelcome({FaultShards(), 0}));
}

/// One fault thread serves some 100,000 faults a second; many more processors make more.
uint32_t DestinationSession::FaultShards() const {
  if (options_.fault_shards > 0) return options_.fault_shards;
  constexpr uint32_t kProcessorsPerShard = 8;
  constexpr uint32_t kChosenMax = 8;
  return std::clamp(std::thread::hardware_concurrency() / kProcessorsPerShard, 1U, kChosenMax);
}

/// Room for what the source has, while its guest still runs; then the device state's way in.
Status DestinationSession::MakeRoom() {
  FAULTLINE_TRY(AwaitPreparing(wire::FrameType::kExtentsDone));
  FAULTLINE_TRY(AnswerOffer());
  const auto look = [this] {
    ReportProgress();
    return CheckAlive();
  };
  FAULTLINE_TRY(pages_->Expect(extents_, look));
  extents_ = {};
  FAULTLINE_TRY(vm_.SetUp());
  FAULTLINE_TRY(pages_->AwaitHeadStart(look));
  // Read before the device state comes, or that would wait behind them on the wire.
  FAULTLINE_TRY(AwaitPreparing(wire::FrameType::kEarlyDone));
  FAULTLINE_ASSIGN(const tcp::UniqueFd qemus, device_stream_.Open(*link_));
  FAULTLINE_TRY(vm_.StartDeviceState(qemus.get()));
  progress_.Step("ready");
  return link_->Send(wire::FrameType::kPrepared);
}

/// As long as the source is heard: it may have a lot to register before.
Status DestinationSession::AwaitPreparing(wire::FrameType type) {
  while (true) {
    FAULTLINE_TRY(CheckAlive());
    const Result<Message> done = inbox_.Await(type, kSlice);
    if (done.has_value()) return {};
    if (done.error().kind != ErrorKind::kTimeout) return tl::make_unexpected(done.error());
    if (clock_.Now() - Nanos(heard_at_.load()) > kSourceSilence)
      return tl::make_unexpected(done.error());
  }
}

Status DestinationSession::LoadDevices() {
  const Nanos start = clock_.Now();
  while (true) {
    FAULTLINE_TRY(CheckAlive());
    const Result<Message> early = inbox_.Await(wire::FrameType::kGo, Nanos{0});
    if (early.has_value()) return Fail(ErrorKind::kPeer, "the source gave Go before Loaded");
    if (early.error().kind != ErrorKind::kTimeout) return tl::make_unexpected(early.error());
    const Status loaded = vm_.WaitLoaded(kSlice);
    if (loaded.has_value()) break;
    if (loaded.error().kind != ErrorKind::kTimeout || clock_.Now() - start > kLoadTimeout) {
      return loaded;
    }
  }
  numbers_.device_load_ms = MillisSince(start, clock_);
  // Unsent, the source cannot have committed: a plain failure. Sent, only the source knows.
  FAULTLINE_TRY(link_->Send(wire::FrameType::kLoaded));
  Advance(DestinationEvent::kLoaded);
  return {};
}

/// From here the source alone decides. A lost link is not an answer: Go may be on its way.
Status DestinationSession::AwaitGo() {
  const Nanos start = clock_.Now();
  while (clock_.Now() - start < kGoPatience) {
    FAULTLINE_TRY(CheckAlive());
    const Result<Message> go = inbox_.Await(wire::FrameType::kGo, kSlice);
    if (go.has_value()) return {};
    if (go.error().kind == ErrorKind::kTimeout) continue;
    if (go.error().kind == ErrorKind::kRefused) {
      Advance(DestinationEvent::kAborted);
      return tl::make_unexpected(go.error());
    }
    std::this_thread::sleep_for(kSlice);
  }
  return Fail(ErrorKind::kTimeout,
              "the source fell silent before it gave the guest away; this guest stays paused: "
              "look at the source before ending either");
}

Status DestinationSession::RunGuest() {
  Advance(DestinationEvent::kGo);
  pages_->GuestRuns();
  FAULTLINE_TRY(vm_.Run());
  if (const Status sent = link_->Send(wire::FrameType::kStarted); !sent.has_value()) {
    spdlog::warn("{}", sent.error().message);
  }
  progress_.Step("the guest runs here");
  if (const Status announced = vm_.Announce(); !announced.has_value()) {
    spdlog::warn("{}", announced.error().message);
  }
  return {};
}

/// Nothing that the network or the source does ends this.
Status DestinationSession::AwaitPages() {
  while (pages_->missing() > PageCount(0)) {
    FAULTLINE_TRY(CheckGuest());
    if (Interrupted()) {
      ForgetInterrupt();
      spdlog::warn("not stopping: the guest runs here and {} of its pages are still missing",
                   pages_->missing().value());
    }
    ReportProgress();
    std::this_thread::sleep_for(PagesPoll(pages_->missing()));
  }
  return {};
}

Status DestinationSession::Release() {
  const Status detached = pages_->Detach();
  device_stream_.Stop();
  Advance(DestinationEvent::kReleased);
  const SummaryJson ours = pages_->Summary(numbers_);
  summary_ = MergeSummary({{"result", "completed"}}, ours);
  FAULTLINE_TRY(detached);
  const Nanos start = clock_.Now();
  const std::string text = ours.dump();
  while (clock_.Now() - start < kFarewellPatience) {
    // After a redial the source has not heard it: said again until it answers.
    const Status sent = link_->SendText(wire::FrameType::kReleased, text);
    const Result<Message> farewell = inbox_.Await(wire::FrameType::kFarewell, seconds(1));
    if (farewell.has_value()) {
      const SummaryJson theirs = ParseSummary(farewell->body);
      if (!theirs.empty()) summary_ = MergeSummary(theirs, ours);
      return {};
    }
    if (!sent.has_value() || inbox_.failed()) std::this_thread::sleep_for(kSlice);
  }
  return Fail(ErrorKind::kTimeout,
              "every page is here, but the source did not say farewell: its numbers are missing");
}

/// The migration is over, and nobody waits for this: the guest only runs faster afterwards.
void DestinationSession::Afterwards() {
  if (huge_regions_.empty()) return;
  const CollapseReport report = pages_->Collapse(huge_regions_, [] { return Interrupted(); });
  summary_["afterwards"] = AfterwardsPart(report);
  WriteSummaryFile();
  progress_.Step(DescribeAfterwards(report));
}

void DestinationSession::WriteSummaryFile() const {
  const Status written = WriteSummary(options_.common.json_path, summary_);
  if (!written.has_value()) spdlog::error("{}", written.error().message);
}

ExitCode DestinationSession::GiveUp(const Error& error) {
  const bool ran = MayHaveRun(phase());
  const bool loaded = phase() == DestinationPhase::kLoaded || ran;
  const bool fresh = phase() == DestinationPhase::kPreparing;
  if (!loaded) {
    const bool refused = error.kind == ErrorKind::kRefused;
    static_cast<void>(link_->SendText(refused ? wire::FrameType::kRefuse : wire::FrameType::kAbort,
                                      error.message));
  }
  Advance(DestinationEvent::kFailure);
  acceptor_->Stop();
  device_stream_.Stop();
  if (maps_) maps_->Stop();
  if (pages_) pages_->StopThreads();
  if (pages_ && fresh) {
    for (const Status& done : {pages_->Detach(), pages_->EmptyRam()}) {
      if (!done.has_value()) spdlog::warn("{}", done.error().message);
    }
    if (const Status done = vm_.Restore(); !done.has_value())
      spdlog::debug("{}", done.error().message);
  }
  spdlog::error("receive: {}{}", error.message,
                fresh || ran ? "" : "; end this QEMU, it holds no guest that may run");
  if (!loaded) link_->AwaitLost(kHangUpPatience);
  summary_ = MergeSummary({{"result", loaded ? "paused" : "failed"}},
                          pages_ ? pages_->Summary(numbers_) : SummaryJson::object());
  WriteSummaryFile();
  return loaded ? ExitCode::kPaused : ExitCode::kNothingChanged;
}

Status DestinationSession::CheckAlive() const {
  if (Interrupted()) return Fail(ErrorKind::kRefused, "interrupted by a signal");
  return CheckGuest();
}

Status DestinationSession::CheckGuest() const {
  if (!pages_ || !pages_->guest_gone()) return {};
  return Fail(ErrorKind::kRefused,
              fmt::format("the destination QEMU (pid {}) has ended", vm_.description().pid));
}

void DestinationSession::ReportProgress() {
  const Nanos now = clock_.Now();
  if (now - progress_at_ < kProgressPeriod) return;
  progress_at_ = now;
  const wire::ProgressBody body = pages_->progress();
  static_cast<void>(link_->Send(wire::FrameType::kProgress, wire::EncodeProgress(body)));
  progress_.Update(body, now);
}

}  // namespace faultline
