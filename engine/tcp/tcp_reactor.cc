#include "engine/tcp/tcp_reactor.h"

#include "engine/tcp/epoll_reactor.h"
#include "engine/tcp/uring_reactor.h"

namespace faultline {
namespace {

template <class Kind>
Result<std::unique_ptr<TcpReactor>> Make() {
  FAULTLINE_ASSIGN(std::unique_ptr<TcpReactor> reactor, Kind::Create());
  return reactor;
}

}  // namespace

std::string_view Name(IoBackend backend) {
  switch (backend) {
    case IoBackend::kUring:
      return "io_uring";
    case IoBackend::kEpoll:
      return "epoll";
    case IoBackend::kInvalid:
      break;
  }
  return "invalid";
}

Result<std::unique_ptr<TcpReactor>> MakeReactor(IoPreference preference) {
  if (preference == IoPreference::kUring) return Make<UringReactor>();
  if (preference == IoPreference::kEpoll) return Make<EpollReactor>();
  auto reactor = Make<UringReactor>();
  return reactor.has_value() ? std::move(reactor) : Make<EpollReactor>();
}

}  // namespace faultline
