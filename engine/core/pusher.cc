#include "engine/core/pusher.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"
#include "engine/core/overtakable_landing.h"

namespace faultline {
namespace {

/// How many proposals one step looks at. Late in a migration nearly all of them are there
/// already; arrivals must not wait while the order is searched for the few that are not.
constexpr int kProposalsPerStep = 256;

}  // namespace

Pusher::Pusher(Landing::Parts parts, PushOrder& order, Reactor& reactor, PusherLimits limits)
    : parts_(parts),
      order_(order),
      reactor_(reactor),
      limits_(limits),
      mean_page_bytes_(parts.geometry.byte_count().value() / parts.geometry.page_count().value()),
      landing_(parts),
      rate_(limits.bytes_per_second,
            limits.window != nullptr ? kRunBytesMax : std::max(limits.window_bytes, kRunBytesMax)) {
}

StepResult Pusher::Step(Nanos timeout) {
  FillWindow();
  ready_ = reactor_.Wait(WaitLimit(timeout));
  TakeArrivals();
  landing_.Retry();
  if (landing_.guest_gone()) return StepResult::kGuestGone;
  if (lane_ != nullptr && lane_->Health() == LaneHealth::kBroken) {
    DropLane();
    return StepResult::kLaneLost;
  }
  return StepResult::kContinue;
}

void Pusher::FillWindow() {
  if (lane_ == nullptr || AwaitsSlack()) return;
  if (fill_ == Fill::kRoundOver) StartNextRound();
  for (int i = 0; i < kProposalsPerStep; ++i) {
    fill_ = PostNext();
    if (fill_ != Fill::kPosted) return;
  }
}

// A round has ended and a step has waited since: what is still Absent was given back behind the
// cursor, or waits for a lane that is gone.
void Pusher::StartNextRound() {
  if (in_flight_.value() == 0 && parts_.ledger.missing().value() > 0) order_.Rewind();
}

Pusher::Fill Pusher::PostNext() {
  DropWhatIsNotAbsent();
  if (candidate_.empty()) {
    urgent_ = order_.IsUrgent();
    candidate_ = order_.Next();
    return candidate_.empty() ? Fill::kRoundOver : Fill::kPosted;
  }
  const PageRun run = NextRun();
  const ByteCount bytes = parts_.geometry.BytesOf(run);
  if (!FitsWindow(bytes) || lane_->Room() == 0) return Fill::kFull;
  const Nanos now = parts_.clock.Now();
  if (PacedFor(bytes, now) > Nanos(0)) return Fill::kPaced;

  const PageRun claimed = parts_.ledger.ClaimPrefix(run, ClaimOf(run));
  if (claimed.empty()) return Fill::kPosted;  // somebody else was faster; look at the next page
  Post(claimed, now);
  candidate_ = {claimed.end(), candidate_.count - claimed.count};
  return Fill::kPosted;
}

Ledger::Claim Pusher::ClaimOf(PageRun run) const {
  const bool overtakable = limits_.overtakable && IsOvertakable(parts_.geometry, run);
  return overtakable ? Ledger::Claim::kOvertakable : Ledger::Claim::kExclusive;
}

// REQUIRES: PacedFor said now, and the run is ours.
void Pusher::Post(PageRun run, Nanos now) {
  const ByteCount bytes = parts_.geometry.BytesOf(run);
  FAULTLINE_CHECK(rate_.TryTake(bytes, now));
  in_flight_ += bytes;
  lane_->Post(run);
  if (!timed_.empty()) return;
  timed_ = run;
  timed_from_ = now;
}

// As much of the candidate as is asked for at once.
PageRun Pusher::NextRun() const {
  if (limits_.window == nullptr) return candidate_;
  const uint64_t page_bytes = parts_.geometry.PageSizeOf(candidate_.first).bytes();
  const PageCount most(std::max<uint64_t>(1, limits_.window->RunBytes().value() / page_bytes));
  return {candidate_.first, std::min(candidate_.count, most)};
}

ByteCount Pusher::Cap() const {
  return limits_.window != nullptr ? limits_.window->Share() : limits_.window_bytes;
}

bool Pusher::FitsWindow(ByteCount bytes) const {
  return in_flight_.value() == 0 || in_flight_ + bytes <= Cap();
}

// The window was full, and too little has arrived since to be worth a request.
bool Pusher::AwaitsSlack() const {
  if (fill_ != Fill::kFull || limits_.window == nullptr) return false;
  return in_flight_.value() > 0 && in_flight_ + limits_.window->Slack() > Cap();
}

void Pusher::DropWhatIsNotAbsent() {
  while (!candidate_.empty() && parts_.ledger.State(candidate_.first) != PageState::kAbsent) {
    candidate_ = {candidate_.first + PageCount(1), candidate_.count - PageCount(1)};
  }
}

Nanos Pusher::PauseLeft(Nanos now) const {
  return limits_.pause != nullptr ? limits_.pause->Left(now) : Nanos(0);
}

Nanos Pusher::PacedFor(ByteCount bytes, Nanos now) const {
  const Nanos paused = urgent_ ? Nanos(0) : PauseLeft(now);
  return std::max(paused, rate_.WaitFor(bytes, now));
}

Nanos Pusher::WaitLimit(Nanos timeout) const {
  if (lane_ != nullptr && fill_ == Fill::kPosted) return Nanos(0);  // more to propose
  Nanos limit = timeout;
  if (lane_ != nullptr && fill_ == Fill::kPaced) {
    limit = std::min(limit, PacedFor(parts_.geometry.BytesOf(NextRun()), parts_.clock.Now()));
  }
  return landing_.has_retries() ? std::min(limit, Landing::kRetryPause) : limit;
}

void Pusher::TakeArrivals() {
  if (lane_ == nullptr) return;
  // What comes during the pause is what the guest is about to touch.
  landing_.Defer(PauseLeft(parts_.clock.Now()) == Nanos(0));
  ByteCount data;
  ByteCount zero;
  size_t count = 0;
  do {
    count = lane_->Reap(arrivals_);
    for (size_t i = 0; i < count; ++i) {
      (arrivals_[i].zero ? zero : data) += parts_.geometry.BytesOf(arrivals_[i].run);
      TimeTrip(arrivals_[i].run);
      if (!arrivals_[i].overtaken) landing_.Complete(arrivals_[i]);
    }
  } while (count == arrivals_.size());
  in_flight_ -= data + zero;
  UpdateWindow(data, zero);
}

void Pusher::TimeTrip(PageRun arrived) {
  if (timed_.empty() || arrived.end() != timed_.end()) return;
  timed_ = {};
  if (limits_.window != nullptr) {
    limits_.window->run_trips().Note(parts_.clock.Now() - timed_from_);
  }
}

void Pusher::UpdateWindow(ByteCount data, ByteCount zero) {
  if (limits_.window == nullptr) return;
  limits_.window->NoteArrived(data, zero);
  if (fill_ == Fill::kPaced || fill_ == Fill::kRoundOver) limits_.window->NoteLimited();
  limits_.window->Update(parts_.clock.Now(),
                         ByteCount(parts_.ledger.missing().value() * mean_page_bytes_));
}

void Pusher::SetLane(std::unique_ptr<PageChannel> lane) {
  FAULTLINE_CHECK(lane_ == nullptr && lane != nullptr);
  lane_ = std::move(lane);
  fill_ = Fill::kPosted;
}

void Pusher::DropLane() {
  if (lane_ == nullptr) return;
  lane_->Close();  // from here on nothing lands any more
  for (const PageRun& run : lane_->Unanswered()) GiveBack(run);
  closed_wire_bytes_ += lane_->WireBytes();
  lane_.reset();
  in_flight_ = ByteCount(0);
  timed_ = {};
}

/// REQUIRES: the lane is closed. What faults have overtaken is theirs.
void Pusher::GiveBack(PageRun unanswered) {
  if (ClaimOf(unanswered) == Ledger::Claim::kExclusive) return landing_.GiveBack(unanswered);
  const uint64_t overtaken = parts_.ledger.BeginLanding(unanswered);
  for (uint64_t i = 0; i < unanswered.count.value(); ++i) {
    if (((overtaken >> i) & 1) != 0) continue;
    landing_.GiveBack({unanswered.first + PageCount(i), PageCount(1)});
  }
}

}  // namespace faultline
