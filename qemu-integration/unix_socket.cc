#include "qemu-integration/unix_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

namespace faultline {

namespace {

Nanos Now() { return std::chrono::steady_clock::now().time_since_epoch(); }

/// What an operator can do about a connect() that failed.
const char* Advice(int error) {
  switch (error) {
    case ENOENT:
      return "start QEMU with -qmp unix:PATH,server=on,wait=off and give that path";
    case ECONNREFUSED:
      return "nobody listens on it: the QEMU that made it has ended, or it is "
             "no socket";
    case ENOTSOCK:
      return "it is no socket";
    case EACCES:
    case EPERM:
      return "no permission: run faultline as root or as QEMU's user";
    case EAGAIN:
      return "other clients wait there already: give QEMU a second -qmp socket";
    case EPROTOTYPE:
      return "it is no stream socket";
    default:
      return "give the path of QEMU's -qmp unix: socket";
  }
}

tl::unexpected<Error> System(const char* what) {
  return Fail(ErrorKind::kSystem, fmt::format("{}: {}", what, std::strerror(errno)));
}

void AttachFd(msghdr& message, char* control, size_t control_size, int fd) {
  message.msg_control = control;
  message.msg_controllen = control_size;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
}

}  // namespace

Result<UnixSocket> UnixSocket::Connect(const std::string& path, Nanos deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Fail(ErrorKind::kUsage, fmt::format("QMP socket '{}': the path must have 1 to {} bytes",
                                               path, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UnixSocket made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (made.fd_ < 0) return System("socket(AF_UNIX)");
  while (connect(made.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    // A full backlog says EAGAIN at once; QEMU's has room for one (chardev/char-socket.c).
    if (errno == EINTR) continue;
    if (errno == EAGAIN && Now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    const int error = errno;
    return Fail(ErrorKind::kRefused, fmt::format("cannot connect to QMP socket {}: {} — {}", path,
                                                 std::strerror(error), Advice(error)));
  }
  return made;
}

UnixSocket::UnixSocket(UnixSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

UnixSocket::~UnixSocket() {
  if (fd_ >= 0) close(fd_);
}

Status UnixSocket::Send(std::string_view bytes, int passed_fd, Nanos deadline) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  while (!bytes.empty()) {
    iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (passed_fd >= 0) AttachFd(message, control, sizeof control, passed_fd);
    const ssize_t sent = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
      passed_fd = -1;
    } else if (sent < 0 && errno == EAGAIN) {
      FAULTLINE_TRY(WaitFor(POLLOUT, deadline));
    } else if (sent < 0 && errno == EPIPE) {
      return Fail(ErrorKind::kPeer, "QEMU closed the connection: has it ended?");
    } else if (sent < 0 && errno != EINTR) {
      return System("sendmsg");
    }
  }
  return {};
}

Status UnixSocket::Receive(std::string& input, Nanos deadline) {
  char buffer[16384];
  while (true) {
    const ssize_t received = recv(fd_, buffer, sizeof buffer, 0);
    if (received > 0) {
      input.append(buffer, static_cast<size_t>(received));
      return {};
    }
    if (received == 0 || errno == ECONNRESET) {
      return Fail(ErrorKind::kPeer, "QEMU closed the connection: has it ended?");
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return System("recv");
    FAULTLINE_TRY(WaitFor(POLLIN, deadline));
  }
}

Status UnixSocket::WaitFor(short events, Nanos deadline) const {
  while (true) {
    const Nanos left = deadline - Now();
    if (left <= Nanos::zero()) return Fail(ErrorKind::kTimeout, "no answer in time");
    const auto millis = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    pollfd entry{fd_, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<int64_t>(millis, 60'000)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return System("poll");
  }
}

int UnixSocket::PeerPid() const {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(fd_, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return 0;
  return credentials.pid;
}

}  // namespace faultline
