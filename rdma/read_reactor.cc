#include "rdma/read_reactor.h"

#include <algorithm>

#include "engine/core/check.h"
#include "rdma/cm.h"
#include "rdma/read_channel.h"

namespace faultline::rdma {
namespace {

constexpr unsigned kTryEvery = 16;

}  // namespace

ReadySet ReadReactor::Wait(Nanos timeout) {
  if (lane_ == nullptr) return inner_.Wait(timeout);
  lane_->Flush(MonotonicNow());
  bool news = PollFor(inner_due_ ? Nanos::zero() : spin_max_);
  if (news && !inner_due_) {
    inner_due_ = true;
    ReadySet ready;
    ready.Add(ReadyToken::kLane);
    return ready;
  }
  inner_due_ = false;
  // With nothing due it would be the next READ that pays for an event, found by looking or not.
  if (!news && lane_->awaits_completion()) news = lane_->AskForEvent();
  const ReadySet ready = inner_.Wait(news ? Nanos::zero() : std::min(timeout, kSilenceCheckPeriod));
  if (ready.Has(ReadyToken::kReads)) lane_->OnCompletionEvent();
  if (ready.Has(ReadyToken::kLink)) lane_->OnLinkEvent();
  lane_->Poll();
  ReadySet all = ready;
  if (lane_->HasNews()) all.Add(ReadyToken::kLane);
  return all;
}

/// At least one look. Spins only while completions tend to come within that time, and now and then
/// all the same: to sleep and be woken makes them look slow.
bool ReadReactor::PollFor(Nanos longest) {
  lane_->Poll();
  if (lane_->HasNews()) return true;
  if (longest == Nanos::zero() || !lane_->awaits_completion()) return false;
  if (!lane_->IsExpectedWithin(longest) && ++slow_waits_ % kTryEvery != 0) return false;
  const Nanos deadline = MonotonicNow() + longest;
  while (MonotonicNow() < deadline) {
    lane_->Poll();
    if (lane_->HasNews()) return true;
  }
  return false;
}

void ReadReactor::Attach(ReadChannel& lane) {
  FAULTLINE_CHECK(lane_ == nullptr);
  lane_ = &lane;
  inner_.Watch(lane.completion_fd(), ReadyToken::kReads);
  inner_.Watch(lane.link_fd(), ReadyToken::kLink);
}

void ReadReactor::Detach() {
  inner_.Unwatch(ReadyToken::kReads);
  inner_.Unwatch(ReadyToken::kLink);
  lane_ = nullptr;
}

}  // namespace faultline::rdma
