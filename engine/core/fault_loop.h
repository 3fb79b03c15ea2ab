// The urgent lane's loop: fault → request → fetch → place → wake. One thread per shard.
//
// Step() names those five things in order; follow one page through
//   uffd/uffd_fault_source.cc → engine/core/fault_loop.cc → engine/tcp/tcp_channel_datapath.cc →
//   engine/tcp/lane_server.cc (at the source) → engine/core/landing.cc → uffd/uffd_placer.cc.
//
// Nothing here allocates, locks, logs, or waits for anything but the reactor.
//
// Ends without ceremony: destroying a loop that has a lane leaves the lane's pages Requested, as
// a crash would. Call DropLane() first to give them back.
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
  /// All outlive the loop. Watches the source on the reactor.
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
  [[nodiscard]] Nanos WaitLimit(Nanos timeout) const;
  void TakeFaults();
  void Answer(PageIndex page, Nanos now);
  [[nodiscard]] bool MayAsk() const;
  void NoteUnasked();
  void AskForUnasked();
  void Request(PageIndex page, Nanos read);
  void TakeArrivals();

  Landing::Parts parts_;
  FaultSource& source_;
  Reactor& reactor_;
  Landing landing_;
  std::unique_ptr<PageChannel> lane_;
  ByteCount closed_wire_bytes_;  ///< of the lanes that are gone
  ReadySet ready_;
  bool more_faults_ = false;  ///< the last read filled its buffer
  bool guest_gone_ = false;
  std::array<Arrival, 64> arrivals_{};
};

}  // namespace faultline
