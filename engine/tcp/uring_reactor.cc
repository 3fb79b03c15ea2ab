#include "engine/tcp/uring_reactor.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "engine/core/check.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/tcp_channel.h"

namespace faultline {
namespace {

constexpr unsigned kEntries = 128;

// user_data: the low three bits say what completed. 1 to 6: an operation of the lane whose
// address the other bits are.
constexpr uint64_t kKindMask = 7;
constexpr uint64_t kNobodyWaits = 0;
constexpr uint64_t kWatchKind = 7;
constexpr uint64_t kTickData = 8;  // of kind kNobodyWaits
/// Shorter waits (a pusher's that is paced, a retry's) have timers of their own.
constexpr Nanos kTickLeast = std::chrono::milliseconds(5);
static_assert(alignof(UringReactor::Lane) > kKindMask);

uint64_t LaneData(UringReactor::Lane& lane, unsigned operation) {
  FAULTLINE_CHECK(operation > 0 && operation < kWatchKind);
  return reinterpret_cast<uint64_t>(&lane) | operation;
}

uint64_t TickData(uint32_t generation) { return (uint64_t{generation} << 32) | kTickData; }

uint64_t WatchData(size_t token, uint32_t generation) {
  return (uint64_t{generation} << 32) | (token << 3) | kWatchKind;
}

}  // namespace

Result<std::unique_ptr<UringReactor>> UringReactor::Create() {
  FAULTLINE_ASSIGN(std::unique_ptr<Uring> ring, Uring::Create(kEntries));
  return std::unique_ptr<UringReactor>(new UringReactor(std::move(ring)));
}

ReadySet UringReactor::Wait(Nanos timeout) {
  Nanos now = tcp::MonotonicNow();
  const Nanos deadline = now + timeout;
  if (timeout > Nanos::zero() && LookForReplies(now)) return std::exchange(ready_, ReadySet());
  do {
    QueueEverything(now);
    CollectNews();
    if (ready_.empty()) {
      PumpUntil(deadline, now);
    } else {
      Pump(Nanos::zero());
    }
    CollectNews();
    // A header alone is no news: receive on, without a round through the caller.
    now = tcp::MonotonicNow();
  } while (ready_.empty() && now < deadline);
  return std::exchange(ready_, ReadySet());
}

void UringReactor::QueueEverything(Nanos now) {
  for (Lane* lane : lanes_) {
    if (lane != nullptr) lane->QueueOperations(now);
  }
  ArmWatches();
}

/// A timer for each wait costs more than the wait where programming one traps (virtual machines):
/// one tick stands for all waits that end after it. A later one that is in the kernel already is
/// left there, and forgotten.
void UringReactor::ArmTick(Nanos now, Nanos at) {
  tick_ = {.tv_sec = 0, .tv_nsec = (at - now).count()};
  io_uring_sqe& sqe = ring_->NextSqe();
  io_uring_prep_timeout(&sqe, &tick_, 0, 0);
  sqe.user_data = TickData(++tick_generation_);
  tick_at_ = at;
}

void UringReactor::PumpUntil(Nanos deadline, Nanos now) {
  const Nanos end = std::min(deadline, now + kSilenceCheckPeriod);
  if (end <= now) return Pump(Nanos::zero());
  const bool has_tick = tick_at_ != Nanos(0) && tick_at_ <= end;
  if (!has_tick && end - now < kTickLeast) return Pump(end - now);
  if (!has_tick) ArmTick(now, end);
  ring_->SubmitAndWait();
  Dispatch();
}

/// The watches are armed first, while the reply is on its way: a fault of another thread ends the
/// look. What the ring has by then is the next Wait's.
bool UringReactor::LookForReplies(Nanos now) {
  for (Lane* lane : lanes_) {
    if (lane == nullptr || !lane->LooksForReply()) continue;
    ArmWatches();
    ring_->Submit();
    if (lane->LookForReply(now + kReplyLookFor)) ready_.Add(ReadyToken::kLane);
  }
  return !ready_.empty();
}

void UringReactor::Pump(Nanos timeout) {
  ring_->SubmitAndWait(timeout);
  Dispatch();
}

void UringReactor::Dispatch() {
  ring_->ForEachCompletion([this](const Uring::Completion& completion) {
    const uint64_t kind = completion.user_data & kKindMask;
    if (completion.user_data == TickData(tick_generation_)) tick_at_ = Nanos(0);
    if (kind == kNobodyWaits) return;
    if (kind == kWatchKind) return OnWatchFired(completion.user_data);
    reinterpret_cast<Lane*>(completion.user_data & ~kKindMask)
        ->OnCompletion(static_cast<unsigned>(kind), completion.result);
  });
}

void UringReactor::CollectNews() {
  for (const Lane* lane : lanes_) {
    if (lane != nullptr && lane->HasNews()) ready_.Add(ReadyToken::kLane);
  }
}

void UringReactor::Watch(int fd, ReadyToken token) {
  WatchSlot& slot = watches_[static_cast<size_t>(token)];
  FAULTLINE_CHECK(fd >= 0 && slot.fd < 0);
  slot.fd = fd;
  watches_used_ = std::max(watches_used_, static_cast<size_t>(token) + 1);
}

void UringReactor::ArmWatches() {
  for (size_t token = 0; token < watches_used_; ++token) {
    WatchSlot& slot = watches_[token];
    if (slot.fd < 0 || slot.armed) continue;
    io_uring_sqe& sqe = ring_->NextSqe();
    io_uring_prep_poll_add(&sqe, slot.fd, POLLIN);
    sqe.user_data = WatchData(token, slot.generation);
    slot.armed = true;
  }
}

void UringReactor::OnWatchFired(uint64_t user_data) {
  const auto token = static_cast<size_t>((user_data & UINT32_MAX) >> 3);
  WatchSlot& slot = watches_[token];
  if (slot.fd < 0 || slot.generation != user_data >> 32) return;
  slot.armed = false;
  ready_.Add(static_cast<ReadyToken>(token));
}

void UringReactor::Unwatch(ReadyToken token) {
  WatchSlot& slot = watches_[static_cast<size_t>(token)];
  const bool in_kernel = slot.armed && MayPump();
  const uint64_t data = WatchData(static_cast<size_t>(token), slot.generation);
  slot = WatchSlot{.generation = slot.generation + 1};
  if (!in_kernel) return;
  // Now, not with the next Wait: an armed poll holds a reference to the file, and the caller may
  // mean to close the last one.
  io_uring_sqe& sqe = ring_->NextSqe();
  io_uring_prep_cancel64(&sqe, data, 0);
  sqe.user_data = kNobodyWaits;
  Pump(Nanos::zero());
}

void UringReactor::Attach(Lane& lane) {
  const auto slot = std::find(lanes_.begin(), lanes_.end(), nullptr);
  FAULTLINE_CHECK(slot != lanes_.end());
  *slot = &lane;
}

void UringReactor::Detach(Lane& lane) {
  std::replace(lanes_.begin(), lanes_.end(), &lane, static_cast<Lane*>(nullptr));
}

void UringReactor::Tag(io_uring_sqe& sqe, Lane& lane, unsigned operation) {
  sqe.user_data = LaneData(lane, operation);
}

void UringReactor::QueueCancel(Lane& lane, unsigned operation) {
  io_uring_sqe& sqe = ring_->NextSqe();
  io_uring_prep_cancel64(&sqe, LaneData(lane, operation), 0);
  sqe.user_data = kNobodyWaits;
}

std::unique_ptr<PageChannel> UringReactor::OpenLane(tcp::UniqueFd socket, LandingArea& area,
                                                    Nanos silence_max, Unpacker* unpacker) {
  return std::make_unique<TcpChannel>(std::move(socket), area, silence_max, unpacker, *this);
}

}  // namespace faultline
