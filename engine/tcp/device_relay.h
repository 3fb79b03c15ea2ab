// Carries QEMU's own migration stream (device state and return path) over the control lane.
//
//   QEMU ◄── UNIX socket ──► DeviceRelay ── DeviceState frames ──► control lane
//                               ▲  Deliver() ◄── whoever receives on the control lane
//
// An empty DeviceState frame says: no more in this direction. Each direction ends for itself
// (the return path outlives the stream).
//
// It cannot dead-lock the control lane: Deliver never waits for QEMU. What QEMU has not read yet
// is queued up to kQueueBytesMax; beyond that the relay fails, and the move with it.
//
// Threads: Deliver, Stop, Wait, done from any thread; the relay has one thread of its own.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/tcp/control_lane.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

class DeviceRelay {
 public:
  static constexpr size_t kQueueBytesMax = 64 * 1024 * 1024;
  static constexpr size_t kReadBytes = 64 * 1024;

  /// Starts the thread. `stream` is our end of the socket pair whose other end QEMU has; `lane`
  /// outlives the relay.
  static Result<std::unique_ptr<DeviceRelay>> Create(tcp::UniqueFd stream, ControlLane& lane);
  DeviceRelay(const DeviceRelay&) = delete;
  DeviceRelay& operator=(const DeviceRelay&) = delete;
  /// Stop().
  ~DeviceRelay();

  /// The body of a DeviceState frame from the peer; empty: its direction has ended. Never waits.
  /// Error: the queue is full, or the relay has ended already.
  Status Deliver(std::span<const std::byte> body);

  /// Waits until both directions have ended, or one failed. kTimeout leaves it running.
  Status Wait(Nanos timeout);
  [[nodiscard]] bool done() const;
  /// Ends it at once and joins the thread; bytes not yet carried are lost. May be called again.
  void Stop();

  /// Bytes of device state carried, both directions, without frame headers.
  [[nodiscard]] ByteCount BytesCarried() const {
    return ByteCount(bytes_.load(std::memory_order_relaxed));
  }

 private:
  DeviceRelay(tcp::UniqueFd stream, tcp::UniqueFd wakeup, ControlLane& lane);

  void Run();
  Status RunUntilDone();
  Status WaitForWork();
  Status CarryOut();
  Status CarryIn();
  bool TakePiece();
  void Wake();
  void Finish(Status status);

  tcp::UniqueFd stream_;
  tcp::UniqueFd wakeup_;  ///< eventfd: something was delivered, or stop
  ControlLane& lane_;
  std::vector<std::byte> read_buffer_;

  // The relay thread's.
  bool out_ended_ = false;  ///< QEMU closed its writing side, and the peer has been told
  bool in_ended_ = false;   ///< the peer closed its writing side, and QEMU has been told
  bool readable_ = false;
  std::vector<std::byte> piece_;  ///< being written to QEMU
  size_t piece_written_ = 0;

  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> bytes_{0};

  mutable std::mutex mutex_;  ///< guards everything below
  std::condition_variable done_changed_;
  std::deque<std::vector<std::byte>> queue_;
  size_t queue_bytes_ = 0;
  bool end_delivered_ = false;  ///< the peer's empty frame is behind the queue
  bool done_ = false;
  Status result_;

  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
