#include "engine/core/fault_loop.h"

#include <algorithm>

#include "engine/core/check.h"

namespace faultline {

FaultLoop::FaultLoop(Landing::Parts parts, FaultSource& source, Reactor& reactor)
    : parts_(parts), source_(source), reactor_(reactor), landing_(parts) {
  reactor_.Watch(source_.WaitFd(), ReadyToken::kFaults);
}

StepResult FaultLoop::Step(Nanos timeout) {
  ready_ = reactor_.Wait(WaitLimit(timeout));
  TakeFaults();      // 1 fault: what the guest waits for and what it gave up …
                     // 2 request: … Answer claims an absent page and posts it
  TakeArrivals();    // 3 fetch: bytes have landed in the alias …
                     // 4 place, 5 wake: … and landing_ maps them, which wakes who waits
  AskForUnasked();   //   there may be room now for what a dead or full lane could not take
  landing_.Retry();  //   and maps what had to wait for an event that TakeFaults has read
  if (guest_gone_ || landing_.guest_gone()) return StepResult::kGuestGone;
  if (lane_ != nullptr && lane_->Health() == LaneHealth::kBroken) {
    DropLane();
    return StepResult::kLaneLost;
  }
  return StepResult::kContinue;
}

Nanos FaultLoop::WaitLimit(Nanos timeout) const {
  if (more_faults_) return Nanos(0);
  return landing_.has_retries() ? std::min(timeout, Landing::kRetryPause) : timeout;
}

void FaultLoop::TakeFaults() {
  if (!ready_.Has(ReadyToken::kFaults) && !more_faults_ && !landing_.has_retries()) return;
  const Nanos reported = parts_.clock.Now();
  const FaultBatch batch = source_.Read();
  more_faults_ = batch.more;
  guest_gone_ = guest_gone_ || batch.gone;
  for (const PageRun& run : batch.removed) landing_.Remove(run);
  if (batch.faults.empty()) return;
  const Nanos now = parts_.clock.Now();
  parts_.fault_metrics.read.Record(now - reported);
  for (const Fault& fault : batch.faults) Answer(fault.page, now);
  if (lane_ != nullptr) lane_->SendNow();  // all that the batch asks for, with one call
  source_.NoteAnswered();
}

void FaultLoop::Answer(PageIndex page, Nanos now) {
  FaultCounters& faults = parts_.fault_metrics.faults;
  faults.count.Add();
  if (!parts_.waiters.Add(page, now)) {  // nowhere to list it: let it fault again
    parts_.placer.Wake({page, PageCount(1)});
    faults.again.Add();
    return;
  }
  const bool may_ask = MayAsk();
  const Ledger::Change change = parts_.ledger.OnFault(page, may_ask);
  switch (change.before) {
    case PageState::kAbsent:
      faults.from_urgent.Add();
      if (change.after == PageState::kRequested) return Request(page, now);
      return NoteUnasked();
    case PageState::kRequested:
      if (!change.overtook) return faults.joined_bulk.Add();
      faults.overtook.Add();
      return Request(page, now);
    case PageState::kDiscarding: return faults.joined_bulk.Add();
    case PageState::kHeld:
      faults.already_held.Add();
      landing_.Settle(page, now);
      return landing_.MapAround(page, now);
    case PageState::kHole:
    case PageState::kReleased: faults.zero.Add(); break;
    case PageState::kMapped: faults.again.Add(); break;
  }
  landing_.Settle(page, now);
}

/// Not on a lane that is known to be dead: it would take a page away from a bulk lane that lives.
bool FaultLoop::MayAsk() const {
  return lane_ != nullptr && lane_->Health() == LaneHealth::kOpen && lane_->Room() > 0;
}

/// Ours to ask for once there is room; without a lane, whose else has one.
void FaultLoop::NoteUnasked() {
  if (lane_ != nullptr) return parts_.waiters.NoteUnasked();
  parts_.waiters.RingForUnasked();
}

// REQUIRES: this call's claim, and room on the lane.
void FaultLoop::Request(PageIndex page, Nanos read) {
  lane_->Post({page, PageCount(1)});
  const Nanos posted = parts_.clock.Now();
  parts_.waiters.NoteRequested(page, posted);
  parts_.fault_metrics.request.Record(posted - read);
}

void FaultLoop::AskForUnasked() {
  if (lane_ == nullptr || !parts_.waiters.TakeUnasked()) return;
  bool asked_all = true;
  parts_.waiters.ForEach([&](PageIndex page) {
    // What a pusher has asked for meanwhile comes with its run: only a fault overtakes.
    if (parts_.ledger.State(page) != PageState::kAbsent) return;
    if (lane_->Room() == 0) {
      asked_all = false;
    } else if (!parts_.ledger.ClaimPrefix({page, PageCount(1)}).empty()) {
      lane_->Post({page, PageCount(1)});
      parts_.waiters.NoteRequested(page, parts_.clock.Now());
    }
  });
  if (!asked_all) parts_.waiters.NoteUnasked();
}

void FaultLoop::TakeArrivals() {
  if (lane_ == nullptr) return;
  size_t count = 0;
  do {
    count = lane_->Reap(arrivals_);
    for (size_t i = 0; i < count; ++i) landing_.Complete(arrivals_[i]);
  } while (count == arrivals_.size());
}

void FaultLoop::SetLane(std::unique_ptr<PageChannel> lane) {
  FAULTLINE_CHECK(lane_ == nullptr && lane != nullptr);
  lane_ = std::move(lane);
  AskForUnasked();
}

void FaultLoop::DropLane() {
  if (lane_ == nullptr) return;
  lane_->Close();  // from here on nothing lands any more
  for (const PageRun& run : lane_->Unanswered()) landing_.GiveBack(run);
  closed_wire_bytes_ += lane_->WireBytes();
  lane_.reset();
}

}  // namespace faultline
