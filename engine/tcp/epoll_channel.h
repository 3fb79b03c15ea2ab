// A page lane over TCP, destination side, on epoll: for sites that have disabled io_uring.
//
// Sends and receives are calls of the reactor's thread (MSG_DONTWAIT), so nothing is ever in
// flight inside the kernel and Close() is quiet at once.
#pragma once

#include "engine/tcp/epoll_reactor.h"
#include "engine/tcp/stream_channel.h"

namespace faultline {

/// Used by the reactor's thread.
class EpollChannel final : public StreamChannel, private EpollReactor::Lane {
 public:
  /// See TcpReactor::OpenLane.
  EpollChannel(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max, Unpacker* unpacker,
               EpollReactor& reactor);
  EpollChannel(const EpollChannel&) = delete;
  EpollChannel& operator=(const EpollChannel&) = delete;
  ~EpollChannel() override;

  void SendNow() override;
  void Close() override;

 private:
  void Flush(Nanos now) override;
  void OnReady(uint32_t events) override;
  [[nodiscard]] bool HasNews() const override { return StreamChannel::HasNews(); }
  [[nodiscard]] bool LooksForReply() override { return StreamChannel::LooksForReply(); }
  void NoteLooked(bool came) override { StreamChannel::NoteLooked(came); }

  void ReceiveWhatIsThere();

  EpollReactor& reactor_;
  bool send_blocked_ = false;  ///< the socket buffer is full: EPOLLOUT says when to go on
};

}  // namespace faultline
