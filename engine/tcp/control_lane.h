// Framed messages over the control connection (wire.h, FrameHeader).
//
// Threads: Send from any thread (one at a time, a mutex); Receive from one thread. Neither blocks
// the other. Shutdown from any thread.
// Errors: once a frame could not be sent or read whole, the lane is broken for good and every
// later call says so; a Receive that ran out of time keeps what it has and may be called again.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

/// As it came; the body lies in the lane, until its next Receive.
struct Frame {
  wire::FrameType type = wire::FrameType::kInvalid;
  std::span<const std::byte> body;
};

class ControlLane {
 public:
  /// A peer that takes no byte of a frame for this long breaks the lane.
  static constexpr Nanos kSendTimeout = std::chrono::seconds(30);

  /// Over a connected socket whose preamble has been exchanged. `peer` is for messages.
  ControlLane(tcp::UniqueFd socket, std::string peer);
  ControlLane(const ControlLane&) = delete;
  ControlLane& operator=(const ControlLane&) = delete;

  /// `more`: the end of the body, where that lies elsewhere.
  /// REQUIRES: body.size() + more.size() <= wire::kFrameBytesMax.
  Status Send(wire::FrameType type, std::span<const std::byte> body = {},
              std::span<const std::byte> more = {});
  /// The next frame; kTimeout if none was complete in time, kPeer if the peer closed or broke
  /// the protocol.
  Result<Frame> Receive(Nanos timeout);

  /// Ends the lane in both directions; a Receive or Send that waits returns. Any thread.
  void Shutdown();
  /// Readable when Receive may have something; does not cover a frame that is already buffered,
  /// which never remains after Receive: one Receive takes exactly one frame off the socket.
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const std::string& peer() const { return peer_; }
  /// Both directions, headers included. Any thread.
  [[nodiscard]] ByteCount WireBytes() const {
    return ByteCount(wire_bytes_.load(std::memory_order_relaxed));
  }

 private:
  Status ReceiveHeader(Nanos deadline);
  Status Fill(std::span<std::byte> buffer, size_t& have, Nanos deadline);
  tl::unexpected<Error> Break(std::string_view what);
  [[nodiscard]] tl::unexpected<Error> BrokenBefore() const;

  const tcp::UniqueFd socket_;
  const std::string peer_;
  std::atomic<bool> broken_{false};
  std::atomic<uint64_t> wire_bytes_{0};

  std::mutex send_mutex_;  ///< held while one frame leaves, so that frames never mix

  // The receiving thread's: the frame that is coming in.
  wire::FrameHeader header_{};
  size_t header_have_ = 0;
  std::vector<std::byte> body_;  ///< as long as the longest so far: pages come this way
  size_t body_have_ = 0;
};

}  // namespace faultline
