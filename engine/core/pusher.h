// The bulk lane's loop: keeps a capped window of runs in flight until nothing is missing.
//
// The cap is what lets a demand fetch never wait behind the pusher: with 1–2 bandwidth-delay
// products in flight, p99 fell from 1.2 ms to 0.08 ms at the same total time. It follows the link
// (window_controller.h) or is fixed, and is never less than one run. --max-bandwidth paces requests
// here, so it binds TCP and RDMA alike, and never the urgent lane.
//
// One instance and one thread per bulk lane; several share the order and the ledger.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "engine/core/bulk_window.h"
#include "engine/core/fault_loop.h"
#include "engine/core/landing.h"
#include "engine/core/page_channel.h"
#include "engine/core/push_order.h"
#include "engine/core/push_pause.h"
#include "engine/core/rate_limiter.h"
#include "engine/core/reactor.h"

namespace faultline {

struct PusherLimits {
  ByteCount window_bytes{uint64_t{1024} * 1024};  ///< this lane's, where it is fixed
  uint64_t bytes_per_second = 0;                  ///< 0: no limit
  const PushPause* pause = nullptr;               ///< outlives the pusher
  BulkWindow* window = nullptr;  ///< follows the link, instead of window_bytes; outlives it
  /// Faults may overtake what is in flight. REQUIRES: lanes that land in an OvertakableLanding.
  bool overtakable = false;
};

class Pusher {
 public:
  Pusher(Landing::Parts parts, PushOrder& order, Reactor& reactor, PusherLimits limits);

  /// As in FaultLoop.
  void SetLane(std::unique_ptr<PageChannel> lane);
  [[nodiscard]] bool has_lane() const { return lane_ != nullptr; }
  void DropLane();

  /// One round: reap and place what arrived, fill the window, wait at most `timeout`.
  StepResult Step(Nanos timeout);
  [[nodiscard]] ReadySet ready() const { return ready_; }
  /// Bytes on the wire of all lanes so far; exact while there is none. The loop's thread.
  [[nodiscard]] ByteCount wire_bytes() const {
    return lane_ ? closed_wire_bytes_ + lane_->WireBytes() : closed_wire_bytes_;
  }

  [[nodiscard]] ByteCount in_flight() const { return in_flight_; }

 private:
  /// Why FillWindow stopped.
  enum class Fill : uint8_t {
    kPosted = 1,  ///< another run is on its way
    kFull,        ///< the window or the lane has no room
    kPaced,       ///< the rate limit or the pause says later
    kRoundOver,   ///< the order has proposed everything
  };
  void FillWindow();
  Fill PostNext();
  [[nodiscard]] Ledger::Claim ClaimOf(PageRun run) const;
  void Post(PageRun run, Nanos now);
  void GiveBack(PageRun unanswered);
  [[nodiscard]] PageRun NextRun() const;
  [[nodiscard]] ByteCount Cap() const;
  [[nodiscard]] bool FitsWindow(ByteCount bytes) const;
  [[nodiscard]] bool AwaitsSlack() const;
  void DropWhatIsNotAbsent();
  void StartNextRound();
  [[nodiscard]] Nanos PauseLeft(Nanos now) const;
  [[nodiscard]] Nanos PacedFor(ByteCount bytes, Nanos now) const;
  [[nodiscard]] Nanos WaitLimit(Nanos timeout) const;
  void TakeArrivals();
  void TimeTrip(PageRun arrived);
  void UpdateWindow(ByteCount data, ByteCount zero);

  Landing::Parts parts_;
  PushOrder& order_;
  Reactor& reactor_;
  PusherLimits limits_;
  const uint64_t mean_page_bytes_;  ///< what is missing is counted in pages, of whatever size
  Landing landing_;
  RateLimiter rate_;
  std::unique_ptr<PageChannel> lane_;
  ByteCount closed_wire_bytes_;  ///< of the lanes that are gone
  PageRun candidate_;            ///< what is left of the run that the order proposed
  bool urgent_ = false;          ///< the candidate waits for no pause
  ByteCount in_flight_;
  PageRun timed_;  ///< one run at a time has its round trip measured; empty: the next
  Nanos timed_from_{0};
  Fill fill_ = Fill::kPosted;
  ReadySet ready_;
  std::array<Arrival, 64> arrivals_{};
};

}  // namespace faultline
