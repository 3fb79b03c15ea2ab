// The control lane over its generations: one object for the whole migration, whose connection may
// be lost and replaced.
//
// A thread of its own reads frames and hands each to `on_frame`. A lost connection is told once to
// `on_lost`; the thread then waits for Connect to bring the next one.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "engine/core/result.h"
#include "engine/tcp/control_lane.h"

namespace faultline {

/// Threads: Send, Connect, Stop, connected from any thread. The callbacks run on the link's own.
class ControlLink {
 public:
  using OnFrame = std::function<void(const Frame& frame)>;
  using OnLost = std::function<void(const Error& error)>;

  ControlLink(OnFrame on_frame, OnLost on_lost);
  ControlLink(const ControlLink&) = delete;
  ControlLink& operator=(const ControlLink&) = delete;
  ~ControlLink() { Stop(); }

  /// Gives the link its next connection; an older one is shut down.
  void Connect(tcp::UniqueFd socket, std::string peer);
  Status Send(wire::FrameType type, std::span<const std::byte> body = {},
              std::span<const std::byte> more = {});
  Status SendText(wire::FrameType type, std::string_view text);
  /// Until the peer has hung up, `patience` at most. What it sends meanwhile is read: a connection
  /// that is closed with bytes unread takes its own last words back (RFC 1122, 4.2.2.13).
  void AwaitLost(Nanos patience);
  /// Ends the connection and joins the thread. May be called again.
  void Stop();

  [[nodiscard]] bool connected() const;
  /// The present connection; nothing if it is lost. Lives as long as somebody holds it.
  [[nodiscard]] std::shared_ptr<ControlLane> lane() const;

 private:
  static constexpr Nanos kReadSlice = std::chrono::milliseconds(100);

  void Run();
  std::shared_ptr<ControlLane> AwaitLane();
  void Drop(const std::shared_ptr<ControlLane>& lane, const Error& error);

  const OnFrame on_frame_;
  const OnLost on_lost_;
  mutable std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  std::shared_ptr<ControlLane> lane_;
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
