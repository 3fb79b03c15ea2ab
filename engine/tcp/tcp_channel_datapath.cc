// The hot path of a page lane on io_uring, in the order in which a page passes through it:
//
//   Post (stream_channel.h)  the run is in the table, its request in the queue
//   SendNow                  somebody waits: the request leaves at once (stream_channel.cc) …
//   LookForReply             bytes have landed in the alias …
//   QueueOperations          … else all that are queued, with one receive: the reactor submits
//   OnCompletion             … and now they have
//   Reap (stream_channel.h)  the pieces that are complete
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "engine/tcp/deadline.h"
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
  if (!receiving_ && !WillLook()) QueueReceive();
  if (!watching_end_ && !ended_) QueueEndWatch();
}

/// REQUIRES: LooksForReply(): what is in the ring meanwhile receives nothing.
bool TcpChannel::LookForReply(Nanos deadline) {
  bool in_time = true;
  while (in_time && !HasNews() && !reactor_.RingHasNews()) {
    ReceiveOnce();
    in_time = tcp::MonotonicNow() < deadline;
  }
  if (HasNews() || !in_time) NoteLooked(HasNews());
  return HasNews();
}

/// A send on the ring would have a completion of its own: one more round for every fault.
void TcpChannel::SendNow() {
  if (!closing_ && !sending_) SendUnsent();  // the rest, if any, leaves through the ring
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

/// With no receive in the kernel, this notices a peer that is gone.
void TcpChannel::QueueEndWatch() {
  io_uring_sqe& sqe = reactor_.NextSqe();
  io_uring_prep_poll_add(&sqe, socket_.get(), POLLRDHUP);
  UringReactor::Tag(sqe, *this, kEnd);
  watching_end_ = true;
}

void TcpChannel::OnCompletion(unsigned operation, int result) {
  switch (operation) {
    case kSend:
      return OnSent(result);
    case kReceive:
      return OnReceived(result);
    case kEnd:
      watching_end_ = false;
      ended_ = result > 0;
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
  // After a header, those that come with it and the pages are usually in the socket already.
  // Taking them now saves a round through the reactor.
  for (int i = 0; i < 2 && !broken_ && !replies_.HasArrivals(); ++i) {
    if (!ReceiveOnce()) return;
  }
}

}  // namespace faultline
