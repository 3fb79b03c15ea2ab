// What the page lane on io_uring and the one on epoll have in common: the table of runs, the
// queue of requests, the lane's health, and the calls that do not wait. When bytes move is the
// derived class's.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "engine/core/check.h"
#include "engine/core/page_channel.h"
#include "engine/core/spin_policy.h"
#include "engine/tcp/reply_stream.h"
#include "engine/tcp/request_queue.h"
#include "engine/tcp/tcp_reactor.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

class StreamChannel : public PageChannel {
 public:
  [[nodiscard]] size_t Room() const final { return std::min(replies_.Room(), requests_.Room()); }

  void Post(PageRun run) final {
    FAULTLINE_CHECK(!closed_);
    requests_.Push(replies_.Post(run));
  }

  size_t Reap(std::span<Arrival> out) final { return closed_ ? 0 : replies_.Reap(out); }

  [[nodiscard]] LaneHealth Health() const final {
    return broken_ ? LaneHealth::kBroken : LaneHealth::kOpen;
  }
  [[nodiscard]] std::span<const PageRun> Unanswered() const final {
    FAULTLINE_CHECK(closed_);
    return {unanswered_.data(), unanswered_count_};
  }
  [[nodiscard]] ByteCount WireBytes() const final { return ByteCount(wire_bytes_); }

  /// The owner has something to look at: arrivals to reap, or a lane to close.
  [[nodiscard]] bool HasNews() const { return !closed_ && (broken_ || replies_.HasArrivals()); }

  /// The reply is so near that looking for it beats sleeping. Once for each wait. Not with several
  /// on their way: then several threads fault, and the next fault may be as near.
  [[nodiscard]] bool LooksForReply() {
    return !closed_ && !broken_ && replies_.AwaitsOneReply() && replies_.peer_looks() &&
           policy_.Pays();
  }
  /// How that went.
  void NoteLooked(bool came) { policy_.NoteLooked(came); }

 protected:
  StreamChannel(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max, Unpacker* unpacker)
      : socket_(std::move(socket)), replies_(area, unpacker), silence_max_(silence_max) {}

  /// Sends what waits, as far as that goes without waiting; true if that was all of it.
  bool SendUnsent();
  /// Receives once if there is something; false: nothing yet.
  bool ReceiveOnce();
  /// `result` bytes of requests have left, or -errno.
  void NoteSent(int64_t result) {
    if (result < 0) return Break();
    requests_.OnSent(static_cast<size_t>(result));
    wire_bytes_ += static_cast<uint64_t>(result);
  }
  /// `result` bytes have landed where replies_.NextReceive() said; 0: the peer closed; or -errno.
  void NoteReceived(int64_t result) {
    silent_for_ = Nanos::zero();
    if (result <= 0) return Break();
    replies_.OnReceived(static_cast<size_t>(result));
    wire_bytes_ += static_cast<uint64_t>(result);
    broken_ = broken_ || replies_.broken();
  }
  void Break() { broken_ = true; }
  /// A peer whose kernel acknowledges but whose process does not answer is found here only.
  void BreakIfSilent(Nanos now) {
    // Counted in steps: an engine that was itself stopped for a while does not blame the peer.
    const Nanos step = std::min(now - looked_at_, kSilenceCheckPeriod);
    looked_at_ = now;
    silent_for_ = replies_.AwaitsReply() ? silent_for_ + step : Nanos::zero();
    if (silent_for_ > silence_max_) Break();
  }
  /// Nothing lands any more. Closes the socket, and what was not reaped is final.
  void Seal() {
    socket_.Reset();
    replies_.Abandon();
    unanswered_count_ = replies_.CopyUnanswered(unanswered_);
    broken_ = true;
    closed_ = true;
  }

  tcp::UniqueFd socket_;
  ReplyStream replies_;
  RequestQueue requests_;
  bool broken_ = false;
  bool closed_ = false;

 private:
  const Nanos silence_max_;
  SpinPolicy policy_;
  Nanos looked_at_{0};
  Nanos silent_for_{0};
  uint64_t wire_bytes_ = 0;
  size_t unanswered_count_ = 0;
  std::array<PageRun, ReplyStream::kOutstandingMax> unanswered_{};
};

}  // namespace faultline
