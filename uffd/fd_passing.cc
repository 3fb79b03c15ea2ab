#include "uffd/fd_passing.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "uffd/system_error.h"

namespace faultline {

namespace {

/// One byte of data with room for one descriptor beside it.
struct Parcel {
  char byte = 'F';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};

  msghdr Message() {
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    return message;
  }
};

}  // namespace

Status SendFd(int socket, int fd) {
  Parcel parcel;
  msghdr message = parcel.Message();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) == 1) return {};
  return SystemFailure("send a descriptor over a UNIX socket", errno);
}

Result<UniqueFd> ReceiveFd(int socket, Nanos timeout) {
  pollfd readable{.fd = socket, .events = POLLIN, .revents = 0};
  const auto timeout_ms = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  const int ready = ::poll(&readable, 1, static_cast<int>(timeout_ms));
  if (ready == 0) return Fail(ErrorKind::kTimeout, "no descriptor came over the UNIX socket");
  Parcel parcel;
  msghdr message = parcel.Message();
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) return SystemFailure("receive a descriptor over a UNIX socket", errno);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (got != 1 || header == nullptr || header->cmsg_level != SOL_SOCKET ||
      header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return Fail(ErrorKind::kPeer, "the UNIX socket's peer sent no descriptor");
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return UniqueFd(fd);
}

}  // namespace faultline
