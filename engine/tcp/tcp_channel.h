// A page lane over TCP, destination side, on io_uring.
//
// While a reply is awaited one receive is in the kernel, so that it lands without a call; but where
// the source looks for requests, so near a reply is looked for first, without the ring. Besides, at
// most one send, which carries every request queued since the last, and a poll for the peer's end.
// Set-up and close are in tcp_channel.cc, the hot path in tcp_channel_datapath.cc.
#pragma once

#include <sys/socket.h>

#include "engine/tcp/stream_channel.h"
#include "engine/tcp/uring_reactor.h"

namespace faultline {

/// Used by the reactor's thread.
class TcpChannel final : public StreamChannel, private UringReactor::Lane {
 public:
  /// See TcpReactor::OpenLane.
  TcpChannel(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max, Unpacker* unpacker,
             UringReactor& reactor);
  TcpChannel(const TcpChannel&) = delete;
  TcpChannel& operator=(const TcpChannel&) = delete;
  ~TcpChannel() override;

  void Close() override;
  void SendNow() override;

 private:
  enum Operation : unsigned { kReceive = 1, kSend = 2, kEnd = 3 };

  void QueueOperations(Nanos now) override;
  void OnCompletion(unsigned operation, int result) override;
  [[nodiscard]] bool HasNews() const override { return StreamChannel::HasNews(); }
  [[nodiscard]] bool LooksForReply() override {
    const bool asked = requests_.Unsent().empty();
    return asked && !closing_ && !receiving_ && StreamChannel::LooksForReply();
  }
  bool LookForReply(Nanos deadline) override;

  void QueueSend();
  void QueueReceive();
  void QueueEndWatch();
  void OnSent(int result);
  void OnReceived(int result);
  [[nodiscard]] bool InKernel() const { return sending_ || receiving_ || watching_end_; }
  /// Before the next reply there is a request, and then LookForReply.
  [[nodiscard]] bool WillLook() const {
    return !ended_ && replies_.peer_looks() && !replies_.AwaitsReply();
  }

  UringReactor& reactor_;
  bool sending_ = false;
  bool receiving_ = false;
  bool watching_end_ = false;
  bool ended_ = false;  ///< the peer has closed: what is left is to be received
  bool closing_ = false;
  msghdr receive_message_{};  ///< the kernel reads it while a receive is in flight
};

}  // namespace faultline
