// Names and socket addresses, as getaddrinfo(3) gives them. Private to socket.cc.
#pragma once

#include <netdb.h>
#include <sys/socket.h>

#include <memory>
#include <string>

#include "engine/core/result.h"
#include "engine/tcp/socket.h"

namespace faultline::tcp {

struct FreeAddrInfo {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, FreeAddrInfo>;

/// All stream addresses of the endpoint, at least one. `passive`: to bind to, not to dial.
Result<AddressList> Resolve(const Endpoint& endpoint, bool passive);

/// Without a look-up; IPv4 in IPv6 is written as IPv4.
Endpoint EndpointOf(const sockaddr& address);
bool IsLoopbackAddress(const sockaddr& address);
/// The other end of a connected socket, or "?".
std::string PeerName(int fd);

}  // namespace faultline::tcp
