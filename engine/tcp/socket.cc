#include "engine/tcp/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "engine/tcp/address.h"
#include "engine/tcp/deadline.h"

namespace faultline {
namespace {

using tcp::FdWait;
using tcp::MonotonicNow;
using tcp::UniqueFd;

constexpr int kBacklog = 64;

bool SetOption(int fd, int level, int name, int value) {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/// Near by, what is in flight is bounded by our own window, and nothing is gained by a congestion
/// control that paces (bbr): its timers cost processor time and every demand fetch waits for one.
/// Not available: the system's choice stays. Before the connection is made: one that has paced once
/// keeps its timers under any other (sk_pacing_status, set in bbr_init and by nobody taken back).
void BeginUnpaced(int fd) {
  constexpr std::string_view kUnpaced = "cubic";
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
}

/// Far away the system's choice comes back.
void PaceFarAway(int fd) {
  constexpr uint32_t kNearbyUs = 5'000;
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return;
  if (info.tcpi_rtt <= kNearbyUs) return;
  const UniqueFd fresh(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::array<char, 16> name{};  // TCP_CA_NAME_MAX of the kernel
  socklen_t length = name.size();
  if (::getsockopt(fresh.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) != 0) return;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), length);
}

void SetBlocking(int fd, bool blocking) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

std::string_view ListenAdvice(int error) {
  switch (error) {
    case EADDRINUSE:
      return "; another program has the port: choose another, or see `ss -ltnp`";
    case EADDRNOTAVAIL:
      return "; this host has no such address: see `ip address`";
    case EACCES:
      return "; ports below 1024 need privileges: choose a higher one";
    default:
      return "";
  }
}

std::string_view DialAdvice(int error) {
  switch (error) {
    case ECONNREFUSED:
      return "; is `faultline receive` running there, on this port?";
    case ETIMEDOUT:
      return "; is a firewall between the two hosts?";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "; this host has no route there: see `ip route get`";
    default:
      return "";
  }
}

/// A listening socket on one address, or -1 with errno.
UniqueFd ListenOn(const addrinfo& address) {
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fd;
  SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  BeginUnpaced(fd.get());  // who is accepted begins like this
  // [::] means IPv6 and IPv4 (ipv6(7)), whatever net.ipv6.bindv6only says.
  if (address.ai_family == AF_INET6) SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (::bind(fd.get(), address.ai_addr, address.ai_addrlen) == 0 &&
      ::listen(fd.get(), kBacklog) == 0) {
    return fd;
  }
  const int error = errno;
  fd.Reset();
  errno = error;
  return fd;
}

Endpoint BoundEndpoint(int fd, const Endpoint& asked) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return asked;
  return tcp::EndpointOf(reinterpret_cast<const sockaddr&>(storage));
}

/// Dialling a free local port from the same port range can connect a socket to itself (TCP's
/// simultaneous open), and that "peer" would echo our preamble.
bool ConnectedToItself(int fd) {
  sockaddr_storage local{}, remote{};
  socklen_t local_length = sizeof local, remote_length = sizeof remote;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_length) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &remote_length) == 0 &&
         local_length == remote_length && std::memcmp(&local, &remote, local_length) == 0;
}

/// One attempt at one address. 0, or an errno; ECANCELED if `cancel_fd` became readable.
int ConnectOnce(const addrinfo& address, Nanos deadline, int cancel_fd, UniqueFd& out) {
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  BeginUnpaced(fd.get());
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return errno;
    switch (tcp::WaitForFd(fd.get(), POLLOUT, deadline, cancel_fd)) {
      case FdWait::kReady:
        break;
      case FdWait::kTimeout:
        return ETIMEDOUT;
      case FdWait::kCancelled:
        return ECANCELED;
      case FdWait::kError:
        return errno;
    }
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
    if (error != 0) return error;
  }
  if (ConnectedToItself(fd.get())) return ECONNREFUSED;
  out = std::move(fd);
  return 0;
}

/// One round over all addresses. 0, or the errno of the last attempt.
int ConnectAny(const addrinfo* list, const DialOptions& options, Nanos deadline, UniqueFd& out) {
  int error = ETIMEDOUT;
  for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
    const Nanos until = std::min(deadline, MonotonicNow() + options.attempt_timeout);
    error = ConnectOnce(*each, until, options.cancel_fd, out);
    if (error == 0 || error == ECANCELED) return error;
  }
  return error;
}

/// False: cancelled.
bool Sleep(Nanos until, int cancel_fd) {
  return tcp::WaitForFd(-1, 0, until, cancel_fd) != FdWait::kCancelled;
}

tl::unexpected<Error> DialFailed(const Endpoint& endpoint, int error) {
  if (error == ECANCELED) {
    return Fail(ErrorKind::kTimeout,
                fmt::format("connecting to {}: given up", endpoint.ToString()));
  }
  return Fail(ErrorKind::kPeer, fmt::format("connecting to {}: {}{}", endpoint.ToString(),
                                            std::strerror(error), DialAdvice(error)));
}

}  // namespace

Status PrepareConnection(int fd, Nanos silence_max) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(silence_max).count();
  const int idle_s = static_cast<int>(std::clamp<int64_t>(seconds / 2, 1, 3600));
  constexpr int kProbes = 4;
  const int interval_s = std::max(1, idle_s / kProbes);
  const int silence_ms = static_cast<int>(std::clamp<int64_t>(
      std::chrono::ceil<std::chrono::milliseconds>(silence_max).count(), 1, 3'600'000));
  SetBlocking(fd, true);
  PaceFarAway(fd);
  // The user timeout ends a connection with unacknowledged data, and overrides the count of
  // keepalive probes on an idle one (tcp(7)): both end after about silence_max.
  const bool ok = SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
                  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
                  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s) &&
                  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s) &&
                  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes) &&
                  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, silence_ms);
  if (ok) return {};
  return Fail(ErrorKind::kSystem,
              fmt::format("setting TCP options of a connection: {}", std::strerror(errno)));
}

void SendFirst(int fd) {
  constexpr int kInteractive = 6;  // TC_PRIO_INTERACTIVE, the most that needs no privilege
  // One of the two fails on either family. First, because IP_TOS sets the priority as well.
  (void)SetOption(fd, IPPROTO_IP, IP_TOS, IPTOS_LOWDELAY);
  (void)SetOption(fd, IPPROTO_IPV6, IPV6_TCLASS, IPTOS_LOWDELAY);
  (void)SetOption(fd, SOL_SOCKET, SO_PRIORITY, kInteractive);
}

std::string LocalHost(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return tcp::EndpointOf(reinterpret_cast<const sockaddr&>(storage)).host;
}

Result<Listener> Listener::Create(const Endpoint& endpoint) {
  FAULTLINE_ASSIGN(const tcp::AddressList list, tcp::Resolve(endpoint, true));
  int error = EADDRNOTAVAIL;
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    UniqueFd fd = ListenOn(*each);
    if (fd.valid()) {
      Endpoint bound = BoundEndpoint(fd.get(), endpoint);
      return Listener(std::move(fd), std::move(bound));
    }
    error = errno;
  }
  return Fail(ErrorKind::kRefused, fmt::format("listening on {}: {}{}", endpoint.ToString(),
                                               std::strerror(error), ListenAdvice(error)));
}

Result<Connection> Listener::Accept(Nanos timeout) {
  const Nanos deadline = MonotonicNow() + timeout;
  while (true) {
    UniqueFd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) {
      FAULTLINE_TRY(PrepareConnection(fd.get()));
      std::string peer = tcp::PeerName(fd.get());
      return Connection{std::move(fd), std::move(peer)};
    }
    // accept(2): errors of the connection itself are reported here and are not the listener's.
    const bool listener_failed = errno == EBADF || errno == EINVAL || errno == ENOTSOCK;
    const bool none_yet = errno == EAGAIN;
    const bool exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    if (listener_failed || exhausted) {
      return Fail(ErrorKind::kSystem,
                  fmt::format("accepting on {}: {}", endpoint_.ToString(), std::strerror(errno)));
    }
    const bool waited_in_vain =
        none_yet && tcp::WaitForFd(socket_.get(), POLLIN, deadline) != FdWait::kReady;
    if (waited_in_vain || (!none_yet && MonotonicNow() >= deadline)) {
      return Fail(ErrorKind::kTimeout,
                  fmt::format("nobody connected to {} in time", endpoint_.ToString()));
    }
  }
}

Result<Connection> Dial(const Endpoint& endpoint, const DialOptions& options) {
  if (endpoint.port == 0) {
    return Fail(ErrorKind::kUsage,
                fmt::format("connecting to {}: port 0 cannot be dialled", endpoint.ToString()));
  }
  const Nanos deadline = MonotonicNow() + options.timeout;
  FAULTLINE_ASSIGN(const tcp::AddressList list, tcp::Resolve(endpoint, false));
  Nanos backoff = options.backoff_first;
  while (true) {
    UniqueFd fd;
    const int error = ConnectAny(list.get(), options, deadline, fd);
    if (error == 0) {
      FAULTLINE_TRY(PrepareConnection(fd.get(), options.silence_max));
      std::string peer = tcp::PeerName(fd.get());
      return Connection{std::move(fd), std::move(peer)};
    }
    if (error == ECANCELED || MonotonicNow() + backoff >= deadline) {
      return DialFailed(endpoint, error);
    }
    if (!Sleep(MonotonicNow() + backoff, options.cancel_fd)) {
      return DialFailed(endpoint, ECANCELED);
    }
    backoff = std::min(backoff * 2, options.backoff_max);
  }
}

}  // namespace faultline
