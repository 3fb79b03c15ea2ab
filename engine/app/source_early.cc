// What the guest needs in its first instants, and how it is there before them: the source looks at
// the running guest; what will hardly change travels now, with its bytes, the rest is named and
// pushed first. Nothing here is needed: what is not there in time is fetched like any page.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "engine/app/first_pages.h"
#include "engine/app/source_session.h"
#include "engine/app/thread_slice.h"
#include "engine/core/rate_limiter.h"

namespace faultline {
namespace {

constexpr ByteCount kEarlyMax{uint64_t{32} << 20};
constexpr Nanos kRateSlice = std::chrono::milliseconds(50);

}  // namespace

/// While the destination attaches.
Status SourceSession::LookAhead() {
  const ReadRam read = [this](RamPlace place, std::span<std::byte> out) {
    return ram_->file(place.region).ReadAt(place.offset, out);
  };
  const FirstPlaces places = vm_.LookForFirstPlaces(read);
  first_pages_ = RunsOf(places.changing, *geometry_);
  FAULTLINE_ASSIGN(early_memory_, AliasMapping::Anonymous(kEarlyMax));
  const std::span<std::byte> memory(reinterpret_cast<std::byte*>(early_memory_->base().value()),
                         kEarlyMax.value());
  early_.emplace(ram_->window(), *presence_, memory);
  early_->Add(RunsOf(places.lasting, *geometry_));
  return {};
}

/// While the destination makes room. What has changed since LookAhead will change again: it is
/// pushed first instead.
Status SourceSession::SendFirstPages() {
  for (const auto& runs : {first_pages_, early_->ForgetChanged()}) {
    for (const PageRun& run : runs) numbers_.first_pages += run.count.value();
    FAULTLINE_TRY(SendRuns(wire::FrameType::kFirstPages, runs));
  }
  RateLimiter rate(options_.bulk_bytes_per_second, kRunBytesMax);
  return early_->VisitCopies([&](PageRun run, std::span<const std::byte> bytes) -> Status {
    while (!rate.TryTake(ByteCount(bytes.size()), clock_.Now())) {
      FAULTLINE_TRY(CheckLink(Nanos::max()));
      const Nanos wait = rate.WaitFor(ByteCount(bytes.size()), clock_.Now());
      std::this_thread::sleep_for(std::min(wait, kRateSlice));
    }
    return link_->Send(wire::FrameType::kEarlyPages, wire::EncodeEarlyPages({run, bytes}));
  });
}

/// From the stop on. It has a processor when the two VMMs leave one: they are what the guest waits
/// for.
void SourceSession::SendUnchanged() {
  RunWhenIdle();
  const Status sent = early_->VisitUnchanged([this](const std::vector<PageRun>& runs) -> Status {
    const bool over = phase() == SourcePhase::kReleased || phase() == SourcePhase::kResumed;
    if (over) return Fail(ErrorKind::kRefused, "nobody needs to know any more");
    return SendRuns(wire::FrameType::kUnchanged, runs);
  });
  if (!sent.has_value()) spdlog::debug("{}", sent.error().message);
  early_.reset();
  early_memory_.reset();
}

}  // namespace faultline
