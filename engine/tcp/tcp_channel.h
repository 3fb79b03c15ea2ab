// A page lane over TCP, destination side, on io_uring.
//
// While the lane is open one receive is always in the kernel, so that replies land without a
// call and a dead peer is noticed; and at most one send, which carries every request queued since
// the last. Set-up and close are in tcp_channel.cc, the hot path in tcp_channel_datapath.cc.
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
  enum Operation : unsigned { kReceive = 1, kSend = 2 };

  void QueueOperations(Nanos now) override;
  void OnCompletion(unsigned operation, int result) override;
  [[nodiscard]] bool HasNews() const override { return StreamChannel::HasNews(); }

  void QueueSend();
  void QueueReceive();
  void OnSent(int result);
  void OnReceived(int result);
  [[nodiscard]] bool InKernel() const { return sending_ || receiving_; }

  UringReactor& reactor_;
  bool sending_ = false;
  bool receiving_ = false;
  bool closing_ = false;
  msghdr receive_message_{};  ///< the kernel reads it while a receive is in flight
};

}  // namespace faultline
