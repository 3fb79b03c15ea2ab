// Connections: where to, how long to try, and what a silent peer means.
//
// Every connection that Listener::Accept or Dial hands out has TCP_NODELAY set and ends by itself
// when the peer falls silent: unacknowledged data fails after TCP_USER_TIMEOUT (tcp(7)), an idle
// connection by keepalive probes in about the same time. Its descriptor is blocking: io_uring
// answers EAGAIN instead of waiting on a non-blocking one.
//
// Threads: everything here may be used from any thread, each object by one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

/// A peer that answers nothing for this long has gone; its lane ends with ETIMEDOUT.
inline constexpr Nanos kPeerSilenceMax = std::chrono::seconds(10);

/// Where to listen or dial, as the operator wrote it.
struct Endpoint {
  std::string host;  ///< an address or a name; without the brackets of IPv6
  uint16_t port = 0;

  /// "ADDR:PORT", "[V6]:PORT", "NAME:PORT". Names are not resolved here. Port 0: any free one,
  /// for Listen only.
  static Result<Endpoint> Parse(std::string_view text);
  [[nodiscard]] std::string ToString() const;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

/// True if every address that the endpoint's name has is a loopback address. Resolves the name.
Result<bool> IsLoopback(const Endpoint& endpoint);

struct Connection {
  tcp::UniqueFd socket;
  std::string peer;  ///< "192.0.2.1:4444", for messages
};

/// Options of every connection; exposed for sockets made elsewhere (tests, a manager).
Status PrepareConnection(int fd, Nanos silence_max = kPeerSilenceMax);

/// This connection's packets go before others, where the host's queues (pfifo_fast, prio) or the
/// network's (DiffServ) tell them apart: for the urgent lane, both ends. Elsewhere without effect,
/// and not being allowed to is no error. ip(7), IP_TOS; socket(7), SO_PRIORITY.
void SendFirst(int fd);

/// The address that a connected socket has at this end, numeric; empty if it has none.
std::string LocalHost(int fd);

class Listener {
 public:
  /// Binds the first address of the endpoint that can be bound. SO_REUSEADDR: a port in TIME_WAIT
  /// after an earlier migration is free. The error names the address and says who may have it.
  static Result<Listener> Create(const Endpoint& endpoint);

  /// The next connection; kTimeout if none came in time. A connection that failed before it was
  /// accepted is passed over.
  Result<Connection> Accept(Nanos timeout);
  /// The bound address, with the real port.
  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  /// Readable when Accept has something.
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  Listener(tcp::UniqueFd socket, Endpoint endpoint)
      : socket_(std::move(socket)), endpoint_(std::move(endpoint)) {}

  tcp::UniqueFd socket_;
  Endpoint endpoint_;
};

struct DialOptions {
  Nanos timeout = std::chrono::seconds(10);             ///< for everything, all attempts
  Nanos attempt_timeout = std::chrono::seconds(3);      ///< for one address once
  Nanos backoff_first = std::chrono::milliseconds(20);  ///< doubles after each round
  Nanos backoff_max = std::chrono::seconds(1);
  Nanos silence_max = kPeerSilenceMax;
  int cancel_fd = -1;  ///< readable: give up at once; stays the caller's
};

/// Tries all addresses of the endpoint, again and again until `timeout`. The error says what the
/// last attempt met ("connection refused: is `faultline receive` running there?").
Result<Connection> Dial(const Endpoint& endpoint, const DialOptions& options = {});

}  // namespace faultline
