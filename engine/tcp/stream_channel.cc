#include "engine/tcp/stream_channel.h"

#include <sys/socket.h>

#include <cerrno>

namespace faultline {
namespace {

bool NotNow() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

bool StreamChannel::SendUnsent() {
  while (!broken_ && !requests_.Unsent().empty()) {
    const std::span<const std::byte> unsent = requests_.Unsent();
    const ssize_t sent =
        ::send(socket_.get(), unsent.data(), unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && NotNow()) return false;
    NoteSent(sent < 0 ? -errno : sent);
  }
  return true;
}

bool StreamChannel::ReceiveOnce() {
  msghdr message{};
  const std::span<iovec> landing = replies_.NextReceiveNow();
  message.msg_iov = landing.data();
  message.msg_iovlen = landing.size();
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  if (got < 0 && NotNow()) return false;
  NoteReceived(got < 0 ? -errno : got);
  return true;
}

}  // namespace faultline
