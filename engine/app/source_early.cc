// What the guest needs in its first instants, and how it is there before them: the source looks at
// the running guest; what will hardly change travels now, with its bytes, the rest is named and
// pushed first. Nothing here is needed: what is not there in time is fetched like any page.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "engine/app/first_pages.h"
#include "engine/app/source_session.h"
#include "engine/core/rate_limiter.h"

namespace faultline {
namespace {

constexpr ByteCount kEarlyMax{uint64_t{32} << 20};
/// So that a slow link does not keep the guest from being stopped.
constexpr Nanos kEarlyTime = std::chrono::seconds(1);
constexpr Nanos kRateSlice = std::chrono::milliseconds(50);
constexpr Nanos kSavedMax = std::chrono::milliseconds(20);
constexpr Nanos kSavedQuiet = std::chrono::microseconds(700);
constexpr Nanos kSavedPoll = std::chrono::microseconds(200);
static_assert(EarlyCopies::kVisitedMax.value() * kSmallPageSize.bytes() <= wire::kEarlyBytesMax);

}  // namespace

/// While the destination attaches.
void SourceSession::LookAhead() {
  const ReadRam read = [this](RamPlace place, std::span<std::byte> out) {
    return ram_->file(place.region).ReadAt(place.offset, out);
  };
  first_places_ = vm_.LookForFirstPlaces(read);
}

/// While the destination makes room: it waits for none of this.
void SourceSession::CopyFirstPages() {
  std::span<std::byte> room;
  if (auto memory = AliasMapping::Anonymous(kEarlyMax); memory.has_value()) {
    early_memory_.emplace(*std::move(memory));
    room = {reinterpret_cast<std::byte*>(early_memory_->base().value()), kEarlyMax.value()};
  }
  early_.emplace(ram_->window(), *presence_, room);
  early_->Add(RunsOf(first_places_.lasting, *geometry_));
}

/// What has changed since CopyFirstPages will change again: it is pushed first instead.
Status SourceSession::SendFirstPages() {
  for (const auto& runs : {RunsOf(first_places_.changing, *geometry_), early_->ForgetChanged()}) {
    for (const PageRun& run : runs) numbers_.first_pages += run.count.value();
    FAULTLINE_TRY(SendRuns(wire::FrameType::kFirstPages, runs));
  }
  // What ends it early, a lost link too, is told by whoever waits for the destination next.
  if (const Status sent = SendEarlyPages(); !sent.has_value()) {
    spdlog::debug("{}", sent.error().message);
  }
  static_cast<void>(link_->Send(wire::FrameType::kEarlyDone));
  return {};
}

Status SourceSession::SendEarlyPages() {
  const Nanos end = clock_.Now() + kEarlyTime;
  RateLimiter rate(options_.bulk_bytes_per_second, kRunBytesMax);
  return early_->VisitCopies([&](PageRun run, std::span<const std::byte> bytes) -> Status {
    const ByteCount size(bytes.size());
    for (Nanos now = clock_.Now(); !rate.TryTake(size, now); now = clock_.Now()) {
      FAULTLINE_TRY(CheckLink(end));
      std::this_thread::sleep_for(std::min(rate.WaitFor(size, now), kRateSlice));
    }
    FAULTLINE_TRY(CheckLink(end));
    return link_->Send(wire::FrameType::kEarlyPages, wire::EncodeRuns(std::span(&run, 1)), bytes);
  });
}

/// From the stop on: what is known of the guest's memory only now, and takes a processor.
void SourceSession::SendWhatIsFinal(ByteCount before) {
  AwaitSaved(before);
  static_cast<void>(link_->Send(wire::FrameType::kSaved));
  if (readable_) current_scan_ = std::thread([this] { SendCurrent(); });
  SendUnchanged();
}

/// Until the VMM has written its device state, of which `before` came before the stop; it says so
/// by writing no more. Until then it should have the processors to itself: what follows takes two
/// of them. The loading of devices takes one, and then longer than this is late.
void SourceSession::AwaitSaved(ByteCount before) {
  const Nanos end = clock_.Now() + kSavedMax;
  ByteCount carried = before;
  Nanos still_since = clock_.Now();
  for (Nanos now = still_since; now < end; now = clock_.Now()) {
    if (const ByteCount so_far = device_stream_.BytesCarried(); so_far != carried) {
      carried = so_far;
      still_since = now;
    }
    if (carried != before && now - still_since > kSavedQuiet) break;
    std::this_thread::sleep_for(kSavedPoll);
  }
}

/// Beside the loading of the device state.
void SourceSession::SendUnchanged() {
  KeepOff keep_off(fault_cores_);
  fault_cores_.NoteBulk(clock_.Now());
  const Status sent = early_->VisitUnchanged([&](const std::vector<PageRun>& runs) -> Status {
    keep_off.Look();
    fault_cores_.NoteBulk(clock_.Now());  // who is late here has pages sent twice
    const bool over = phase() == SourcePhase::kReleased || phase() == SourcePhase::kResumed;
    if (over) return Fail(ErrorKind::kRefused, "nobody needs to know any more");
    FAULTLINE_TRY(SendRuns(wire::FrameType::kUnchanged, runs));
    std::this_thread::yield();  // the VMM's threads come first: everybody waits for its devices
    return {};
  });
  if (!sent.has_value()) spdlog::debug("{}", sent.error().message);
  early_.reset();
  early_memory_.reset();
}

}  // namespace faultline
