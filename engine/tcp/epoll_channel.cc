#include "engine/tcp/epoll_channel.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "engine/core/check.h"

namespace faultline {

EpollChannel::EpollChannel(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max,
                           Unpacker* unpacker, EpollReactor& reactor)
    : StreamChannel(std::move(socket), area, silence_max, unpacker), reactor_(reactor) {
  FAULTLINE_CHECK(socket_.valid());
  reactor_.Attach(*this, socket_.get());
}

EpollChannel::~EpollChannel() { Close(); }

void EpollChannel::Close() {
  if (closed_) return;
  ::shutdown(socket_.get(), SHUT_RDWR);
  reactor_.Detach(*this, socket_.get());
  Seal();
}

void EpollChannel::Flush(Nanos now) {
  BreakIfSilent(now);
  SendNow();
}

void EpollChannel::SendNow() {
  if (closed_ || send_blocked_ || SendUnsent()) return;
  send_blocked_ = true;
  reactor_.WantWritable(*this, socket_.get(), true);
}

void EpollChannel::OnReady(uint32_t events) {
  if (send_blocked_ && (events & EPOLLOUT) != 0) {
    send_blocked_ = false;
    reactor_.WantWritable(*this, socket_.get(), false);
  }
  if ((events & ~static_cast<uint32_t>(EPOLLOUT)) != 0) ReceiveWhatIsThere();
}

/// Until there is something to report, or nothing more to receive.
void EpollChannel::ReceiveWhatIsThere() {
  while (!broken_ && !replies_.HasArrivals() && ReceiveOnce()) {
  }
}

}  // namespace faultline
