#include "engine/core/pusher.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"

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
      landing_(parts),
      rate_(limits.bytes_per_second, std::max(limits.window_bytes, kRunBytesMax)) {}

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
  if (lane_ == nullptr) return;
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
    candidate_ = order_.Next();
    return candidate_.empty() ? Fill::kRoundOver : Fill::kPosted;
  }
  const ByteCount bytes = parts_.geometry.BytesOf(candidate_);
  const bool fits = in_flight_.value() == 0 || in_flight_ + bytes <= limits_.window_bytes;
  if (!fits || lane_->Room() == 0) return Fill::kFull;
  const Nanos now = parts_.clock.Now();
  if (PacedFor(bytes, now) > Nanos(0)) return Fill::kPaced;

  const PageRun claimed = parts_.ledger.ClaimPrefix(candidate_);
  if (claimed.empty()) return Fill::kPosted;  // somebody else was faster; look at the next page
  const ByteCount claimed_bytes = parts_.geometry.BytesOf(claimed);
  FAULTLINE_CHECK(rate_.TryTake(claimed_bytes, now));
  in_flight_ += claimed_bytes;
  lane_->Post(claimed);
  candidate_ = {claimed.end(), candidate_.count - claimed.count};
  return Fill::kPosted;
}

void Pusher::DropWhatIsNotAbsent() {
  while (!candidate_.empty() && parts_.ledger.State(candidate_.first) != PageState::kAbsent) {
    candidate_ = {candidate_.first + PageCount(1), candidate_.count - PageCount(1)};
  }
}

Nanos Pusher::PacedFor(ByteCount bytes, Nanos now) const {
  const Nanos paused = limits_.pause != nullptr ? limits_.pause->Left(now) : Nanos(0);
  return std::max(paused, rate_.WaitFor(bytes, now));
}

Nanos Pusher::WaitLimit(Nanos timeout) const {
  if (lane_ != nullptr && fill_ == Fill::kPosted) return Nanos(0);  // more to propose
  Nanos limit = timeout;
  if (lane_ != nullptr && fill_ == Fill::kPaced) {
    limit = std::min(limit, PacedFor(parts_.geometry.BytesOf(candidate_), parts_.clock.Now()));
  }
  return landing_.has_retries() ? std::min(limit, Landing::kRetryPause) : limit;
}

void Pusher::TakeArrivals() {
  if (lane_ == nullptr) return;
  size_t count = 0;
  do {
    count = lane_->Reap(arrivals_);
    for (size_t i = 0; i < count; ++i) {
      in_flight_ -= parts_.geometry.BytesOf(arrivals_[i].run);
      landing_.Complete(arrivals_[i]);
    }
  } while (count == arrivals_.size());
}

void Pusher::SetLane(std::unique_ptr<PageChannel> lane) {
  FAULTLINE_CHECK(lane_ == nullptr && lane != nullptr);
  lane_ = std::move(lane);
  fill_ = Fill::kPosted;
}

void Pusher::DropLane() {
  if (lane_ == nullptr) return;
  lane_->Close();  // from here on nothing lands any more
  for (const PageRun& run : lane_->Unanswered()) landing_.GiveBack(run);
  closed_wire_bytes_ += lane_->WireBytes();
  lane_.reset();
  in_flight_ = ByteCount(0);
}

}  // namespace faultline
