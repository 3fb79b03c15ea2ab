#include "rdma/read_channel.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"

namespace faultline::rdma {
namespace {

/// An engine that was itself stopped for a while does not blame the peer: silence is counted in
/// steps of at most this.
constexpr Nanos kSilenceStepMax = ReadReactor::kSilenceCheckPeriod;
constexpr unsigned kEventsPerAcknowledgement = 64;  // each call takes a lock

}  // namespace

ReadChannel::ReadChannel(Connection connection, Memory memory, ReadReactor& reactor)
    : connection_(std::move(connection)),
      memory_(memory),
      reactor_(reactor),
      looked_at_(MonotonicNow()) {
  memory_.pool.space().Clear();
  reactor_.Attach(*this);
}

ReadChannel::~ReadChannel() { Close(); }

void ReadChannel::Break(const char* reason) {
  if (broken_) return;
  broken_ = true;
  reason_ = reason;
}

void ReadChannel::OnCompletionEvent() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  armed_ = false;
  // The channel is readable, so this does not block.
  if (ibv_get_cq_event(connection_.completions.get(), &queue, &context) != 0) {
    return Break("its completion channel failed");
  }
  if (++events_unacknowledged_ < kEventsPerAcknowledgement) return;
  ibv_ack_cq_events(connection_.queue.get(), std::exchange(events_unacknowledged_, 0));
}

/// Whatever happens to an established connection is its end. Several events may wait.
void ReadChannel::OnLinkEvent() {
  while (const CmEvent event = NextEvent(*connection_.events)) {
    if (event->event != RDMA_CM_EVENT_TIMEWAIT_EXIT) Break(rdma_event_str(event->event));
  }
}

void ReadChannel::BreakIfSilent(Nanos now) {
  const Nanos step = std::min(now - looked_at_, kSilenceStepMax);
  looked_at_ = now;
  silent_for_ = completed_ < flushed_ ? silent_for_ + step : Nanos::zero();
  if (silent_for_ > kSilenceMax) Break("the peer is silent");
}

/// The queue pair's end is the proof that nothing lands any more.
void ReadChannel::Close() {
  if (closed_) return;
  closed_ = true;
  Break("closed");
  reactor_.Detach();
  (void)rdma_disconnect(connection_.id.get());  // to error, and tells the peer
  DestroyQueuePair(*connection_.id);
  if (events_unacknowledged_ > 0) {
    ibv_ack_cq_events(connection_.queue.get(), std::exchange(events_unacknowledged_, 0));
  }
  for (uint64_t number = reaped_; number < posted_; ++number) {
    unanswered_[unanswered_count_++] = pieces_[number & kMask].run;
  }
  memory_.pool.space().Clear();
  connection_.id.reset();  // before what it was made on
  connection_.queue.reset();
  connection_.completions.reset();
  connection_.events.reset();
}

std::span<const PageRun> ReadChannel::Unanswered() const {
  FAULTLINE_CHECK(closed_);
  return {unanswered_.data(), unanswered_count_};
}

}  // namespace faultline::rdma
