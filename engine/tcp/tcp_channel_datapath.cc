// The hot path of a page lane on io_uring, in the order in which a page passes through it:
//
//   Post (stream_channel.h)  the run is in the table, its request in the queue
//   SendNow                  somebody waits: the request leaves at once …
//   QueueOperations          … else all that are queued, with one receive: the reactor submits
//   OnCompletion             bytes have landed in the alias
//   Reap (stream_channel.h)  the pieces that are complete
#include <sys/socket.h>

#include <cerrno>

#include "engine/tcp/tcp_channel.h"

namespace faultline {
namespace {

/// Nothing happened, ask again: a signal (or a tracer) came between.
bool IsRetry(int result) { return result == -EINTR || result == -EAGAIN; }

}  // namespace

void TcpChannel::QueueOperations(Nanos now) {
  BreakIfSilent(now);
  if (closing_ || broken_) return;
  if (!sending_) QueueSend();
  if (!receiving_) QueueReceive();
}

/// A send on the ring would have a completion of its own: one more round for every fault.
void TcpChannel::SendNow() {
  if (closing_ || broken_ || sending_) return;
  const std::span<const std::byte> unsent = requests_.Unsent();
  if (unsent.empty()) return;
  const ssize_t sent =
      ::send(socket_.get(), unsent.data(), unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  const ssize_t result = sent < 0 ? -errno : sent;
  if (result >= 0 || !IsRetry(static_cast<int>(result))) NoteSent(result);
}

void TcpChannel::QueueSend() {
  const std::span<const std::byte> unsent = requests_.Unsent();
  if (unsent.empty()) return;
  io_uring_sqe& sqe = reactor_.NextSqe();
  io_uring_prep_send(&sqe, socket_.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
  UringReactor::Tag(sqe, *this, kSend);
  sending_ = true;
}

void TcpChannel::QueueReceive() {
  const std::span<iovec> landing = replies_.NextReceive();
  receive_message_.msg_iov = landing.data();
  receive_message_.msg_iovlen = landing.size();
  io_uring_sqe& sqe = reactor_.NextSqe();
  io_uring_prep_recvmsg(&sqe, socket_.get(), &receive_message_, 0);
  UringReactor::Tag(sqe, *this, kReceive);
  receiving_ = true;
}

void TcpChannel::OnCompletion(unsigned operation, int result) {
  if (operation == kSend) {
    OnSent(result);
  } else {
    OnReceived(result);
  }
}

void TcpChannel::OnSent(int result) {
  sending_ = false;
  if (!closing_ && !IsRetry(result)) NoteSent(result);
}

void TcpChannel::OnReceived(int result) {
  receiving_ = false;
  if (closing_ || IsRetry(result)) return;
  NoteReceived(result);
  if (!broken_ && !replies_.HasArrivals()) ReceiveWhatIsThere();
}

/// After a header, the pages are usually in the socket already: the source sends both with one
/// call. Taking them now saves a round through the reactor.
void TcpChannel::ReceiveWhatIsThere() {
  msghdr message{};
  const std::span<iovec> landing = replies_.NextReceive();
  message.msg_iov = landing.data();
  message.msg_iovlen = landing.size();
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  const ssize_t result = got < 0 ? -errno : got;
  if (result >= 0 || !IsRetry(static_cast<int>(result))) NoteReceived(result);
}

}  // namespace faultline
