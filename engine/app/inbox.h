// The hand-over's messages, from the thread that reads the control lane to the one that acts.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/tcp/control_lane.h"

namespace faultline {

/// A frame that is kept.
struct Message {
  wire::FrameType type = wire::FrameType::kInvalid;
  std::vector<std::byte> body;
};

/// Threads: Put and Lost from the reader, Await from the session. At most kMessagesMax wait: the
/// hand-over is a conversation, and a peer that sends more does not speak our protocol.
class Inbox {
 public:
  static constexpr size_t kMessagesMax = 16;

  void Put(const Frame& frame);
  /// The link is lost: Await fails with `error` once the messages before it are taken.
  void Lost(Error error);
  /// The link is back.
  void Restored();

  /// The next message, which has to be a `wanted` one. Errors: kRefused with the peer's own words
  /// for Refuse and Abort; kTimeout; the link's failure; kPeer for a message out of turn.
  Result<Message> Await(wire::FrameType wanted, Nanos timeout);
  [[nodiscard]] bool failed() const;

 private:
  mutable std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  std::deque<Message> messages_;
  bool failed_ = false;
  Error failure_;
};

}  // namespace faultline
