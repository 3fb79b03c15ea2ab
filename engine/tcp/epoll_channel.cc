#include "engine/tcp/epoll_channel.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "engine/core/check.h"

namespace faultline {
namespace {

bool NotNow() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

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
  while (!broken_ && !send_blocked_ && !requests_.Unsent().empty()) {
    const std::span<const std::byte> unsent = requests_.Unsent();
    const ssize_t sent =
        ::send(socket_.get(), unsent.data(), unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && NotNow()) {
      send_blocked_ = true;
      reactor_.WantWritable(*this, socket_.get(), true);
      return;
    }
    NoteSent(sent < 0 ? -errno : sent);
  }
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

bool EpollChannel::ReceiveOnce() {
  msghdr message{};
  const std::span<iovec> landing = replies_.NextReceive();
  message.msg_iov = landing.data();
  message.msg_iovlen = landing.size();
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  if (got < 0 && NotNow()) return false;
  NoteReceived(got < 0 ? -errno : got);
  return true;
}

}  // namespace faultline
