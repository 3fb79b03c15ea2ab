#include "engine/tcp/exact_io.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "engine/tcp/deadline.h"
#include "engine/tcp/gathered.h"

namespace faultline::tcp {
namespace {

/// Waits for the socket; kDone: it is ready.
IoEnd Await(int fd, short events, Nanos deadline) {
  switch (WaitForFd(fd, events, deadline)) {
    case FdWait::kReady:
      return IoEnd::kDone;
    case FdWait::kTimeout:
      return IoEnd::kTimeout;
    case FdWait::kCancelled:
    case FdWait::kError:
      break;
  }
  return IoEnd::kFailed;
}

bool WouldBlock() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

IoEnd ReadExactly(int fd, std::span<std::byte> buffer, size_t& have, Nanos deadline) {
  while (have < buffer.size()) {
    const ssize_t got = ::recv(fd, buffer.data() + have, buffer.size() - have, MSG_DONTWAIT);
    if (got == 0) return IoEnd::kClosed;
    if (got > 0) {
      have += static_cast<size_t>(got);
      continue;
    }
    if (!WouldBlock()) return IoEnd::kFailed;
    const IoEnd waited = Await(fd, POLLIN, deadline);
    if (waited != IoEnd::kDone) return waited;
  }
  return IoEnd::kDone;
}

IoEnd WriteFully(int fd, std::span<iovec> pieces, Nanos stall_max) {
  for (pieces = Advance(pieces, 0); !pieces.empty();) {
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    const ssize_t sent = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      pieces = Advance(pieces, static_cast<size_t>(sent));
      continue;
    }
    if (!WouldBlock()) return IoEnd::kFailed;
    const IoEnd waited = Await(fd, POLLOUT, MonotonicNow() + stall_max);
    if (waited != IoEnd::kDone) return waited;
  }
  return IoEnd::kDone;
}

IoEnd WriteFully(int fd, std::span<const std::byte> bytes, Nanos stall_max) {
  iovec piece = PieceOf(bytes);
  return WriteFully(fd, std::span(&piece, 1), stall_max);
}

std::string Describe(IoEnd end) {
  switch (end) {
    case IoEnd::kDone:
      return "done";
    case IoEnd::kClosed:
      return "it closed the connection";
    case IoEnd::kTimeout:
      return "no answer in time";
    case IoEnd::kFailed:
      break;
  }
  return std::strerror(errno);
}

}  // namespace faultline::tcp
