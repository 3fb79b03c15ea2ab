#include "engine/tcp/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>

namespace faultline {
namespace {

tl::unexpected<Error> BadEndpoint(std::string_view text, std::string_view why) {
  return Fail(ErrorKind::kUsage,
              fmt::format("'{}' is not an address: {}; write ADDR:PORT, [IPV6]:PORT or NAME:PORT",
                          text, why));
}

in_addr V4Of(const sockaddr& address) {
  sockaddr_in in;
  std::memcpy(&in, &address, sizeof in);
  return in.sin_addr;
}

sockaddr_in6 V6Of(const sockaddr& address) {
  sockaddr_in6 in;
  std::memcpy(&in, &address, sizeof in);
  return in;
}

uint16_t PortOf(const sockaddr& address) {
  // sin_port and sin6_port lie at the same place.
  sockaddr_in in;
  std::memcpy(&in, &address, sizeof in);
  return ntohs(in.sin_port);
}

}  // namespace

Result<Endpoint> Endpoint::Parse(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return BadEndpoint(text, "it has no port");
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return BadEndpoint(text, "an IPv6 address needs brackets");
  }
  if (host.empty()) return BadEndpoint(text, "it has no host (0.0.0.0 or [::] is every address)");
  if (host.find_first_of("[]/ \t") != std::string_view::npos || host.size() > 255) {
    return BadEndpoint(text, "the host is not a name or an address");
  }
  uint16_t port = 0;
  const char* const end = port_text.data() + port_text.size();
  const auto parsed = std::from_chars(port_text.data(), end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return BadEndpoint(text, "the port is not a number from 0 to 65535");
  }
  return Endpoint{std::string(host), port};
}

std::string Endpoint::ToString() const {
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<bool> IsLoopback(const Endpoint& endpoint) {
  FAULTLINE_ASSIGN(const tcp::AddressList list, tcp::Resolve(endpoint, true));
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    if (!tcp::IsLoopbackAddress(*each->ai_addr)) return false;
  }
  return true;
}

namespace tcp {

Result<AddressList> Resolve(const Endpoint& endpoint, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* list = nullptr;
  const int error =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &list);
  if (error != 0 || list == nullptr) {
    return Fail(ErrorKind::kSystem,
                fmt::format("looking up '{}': {}; check the name, or give the address itself",
                            endpoint.host,
                            error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error)));
  }
  return AddressList(list);
}

Endpoint EndpointOf(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.sa_family == AF_INET) {
    const in_addr v4 = V4Of(address);
    ::inet_ntop(AF_INET, &v4, text, sizeof text);
  } else if (address.sa_family == AF_INET6) {
    const in6_addr v6 = V6Of(address).sin6_addr;
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6);
    ::inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? &v6.s6_addr[12] : &v6.s6_addr[0], text,
                sizeof text);
  }
  return Endpoint{text, PortOf(address)};
}

bool IsLoopbackAddress(const sockaddr& address) {
  constexpr uint8_t kLoopbackNet = 127;
  if (address.sa_family == AF_INET) {
    return (ntohl(V4Of(address).s_addr) >> 24) == kLoopbackNet;
  }
  if (address.sa_family != AF_INET6) return false;
  const in6_addr v6 = V6Of(address).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == kLoopbackNet;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string PeerName(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return "?";
  return EndpointOf(reinterpret_cast<const sockaddr&>(storage)).ToString();
}

}  // namespace tcp
}  // namespace faultline
