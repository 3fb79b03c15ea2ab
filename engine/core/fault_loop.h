// The urgent lane's loop: fault → request → fetch → place → wake. One thread per shard.
//
// Step() names those five things in order; follow one page through
//   uffd/fault_source.cc → engine/core/fault_loop.cc → engine/tcp/tcp_channel_datapath.cc →
//   engine/core/page_server.cc (at the source) → engine/core/landing.cc → uffd/placer.cc.
//
// Nothing here allocates, locks, logs, or waits for anything but the reactor.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "engine/core/fault_source.h"
#include "engine/core/landing.h"
#include "engine/core/page_channel.h"
#include "engine/core/reactor.h"

namespace faultline {

enum class StepResult : uint8_t {
  kContinue = 1,
  kLaneLost,   ///< the lane broke and was closed; what it owed is Absent again; SetLane a new one
  kGuestGone,  ///< the guest's process has ended
};

class FaultLoop {
 public:
  FaultLoop(Landing::Parts parts, FaultSource& source, Reactor& reactor);

  /// Gives the loop a lane (made on its reactor) and asks again for everybody still waiting.
  /// REQUIRES: no lane.
  void SetLane(std::unique_ptr<PageChannel> lane);
  [[nodiscard]] bool has_lane() const { return lane_ != nullptr; }
  /// Closes the lane and gives its pages back. No-op without one.
  void DropLane();

  /// One round; waits at most `timeout` for the next thing to do. Without a lane, zero pages are
  /// still placed and waiters listed.
  StepResult Step(Nanos timeout);
  /// What the last Step's wait reported: the thread's owner looks for kMailbox.
  [[nodiscard]] ReadySet ready() const { return ready_; }
  /// Bytes on the wire of all lanes so far; exact while there is none. The loop's thread.
  [[nodiscard]] ByteCount wire_bytes() const {
    return lane_ ? closed_wire_bytes_ + lane_->WireBytes() : closed_wire_bytes_;
  }

 private:
  void TakeFaults();
  void TakeRemoved(std::span<const PageRun> removed);
  void Answer(const Fault& fault, Nanos now);
  void Request(PageIndex page);
  void TakeArrivals();

  Landing::Parts parts_;
  FaultSource& source_;
  Reactor& reactor_;
  Landing landing_;
  std::unique_ptr<PageChannel> lane_;
  ByteCount closed_wire_bytes_;  ///< of the lanes before this one; DropLane adds to it
  ReadySet ready_;
  bool guest_gone_ = false;
  bool backlog_ = false;  ///< waiters are listed whose page nobody has asked for (no room, no lane)
  std::array<Arrival, 64> arrivals_{};
};

}  // namespace faultline
