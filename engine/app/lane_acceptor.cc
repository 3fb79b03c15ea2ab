#include "engine/app/lane_acceptor.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <array>

#include "engine/app/monotonic_clock.h"

namespace faultline {
namespace {

/// poll(2) then reports the socket only when a whole greeting is there, or the end (socket(7)).
void SetLowWaterMark(int socket, int bytes) {
  static_cast<void>(setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes));
}

bool HasSpoken(int socket) {
  pollfd poll_fd{.fd = socket, .events = POLLIN, .revents = 0};
  return poll(&poll_fd, 1, 0) > 0;
}

}  // namespace

LaneAcceptor::LaneAcceptor(Listener listener, Callbacks callbacks)
    : listener_(std::move(listener)),
      endpoint_(listener_->endpoint()),
      callbacks_(std::move(callbacks)),
      thread_([this] { Run(); }) {}

void LaneAcceptor::Stop() {
  stopping_.store(true, std::memory_order_release);
  // Wakes poll(2) at once: what follows the last page is time in which the guest runs slower.
  if (listener_) ::shutdown(listener_->fd(), SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
  listener_.reset();  // who still dials learns at once that nobody answers
}

void LaneAcceptor::Run() {
  while (AwaitNews()) {
    Accept();
    HearStrangers();
  }
  strangers_.clear();
}

/// False: to stop.
bool LaneAcceptor::AwaitNews() const {
  std::array<pollfd, kStrangersMax + 1> fds{};
  size_t count = 0;
  fds[count++] = {.fd = listener_->fd(), .events = POLLIN, .revents = 0};
  for (const Stranger& stranger : strangers_) {
    fds[count++] = {.fd = stranger.connection.socket.get(), .events = POLLIN, .revents = 0};
  }
  constexpr auto kMillis = std::chrono::duration_cast<std::chrono::milliseconds>(kSlice).count();
  static_cast<void>(poll(fds.data(), count, static_cast<int>(kMillis)));
  return !stopping_.load(std::memory_order_acquire);
}

void LaneAcceptor::Accept() {
  Result<Connection> connection = listener_->Accept(Nanos{0});
  if (connection.has_value()) {
    SetLowWaterMark(connection->socket.get(), sizeof(wire::Preamble));
    if (strangers_.size() == kStrangersMax) strangers_.erase(strangers_.begin());
    strangers_.push_back({std::move(*connection), MonotonicClock().Now() + kPreambleTimeout});
  } else if (connection.error().kind != ErrorKind::kTimeout && !stopping_.load()) {
    spdlog::warn("{}", connection.error().message);
    std::this_thread::sleep_for(kSlice);  // out of descriptors, say: not a busy loop
  }
}

void LaneAcceptor::HearStrangers() {
  const Nanos now = MonotonicClock().Now();
  std::vector<Stranger> silent;
  for (Stranger& stranger : strangers_) {
    if (HasSpoken(stranger.connection.socket.get())) {
      Welcome(std::move(stranger.connection));
    } else if (now < stranger.until) {
      silent.push_back(std::move(stranger));
    } else {
      spdlog::warn("{} connected and said nothing; dropped", stranger.connection.peer);
    }
  }
  strangers_ = std::move(silent);
}

/// REQUIRES: the greeting is there, or will never be.
void LaneAcceptor::Welcome(Connection connection) {
  SetLowWaterMark(connection.socket.get(), 1);
  const Result<LaneIntroduction> introduction =
      ReadIntroduction(connection.socket.get(), connection.peer);
  if (!introduction.has_value()) {
    spdlog::warn("{}", introduction.error().message);
    return;
  }
  const wire::PreambleStatus status = callbacks_.judge(*introduction);
  const Status answered = AnswerIntroduction(connection.socket.get(), status, connection.peer);
  if (!answered.has_value()) {
    spdlog::warn("{}", answered.error().message);
    return;
  }
  if (status == wire::PreambleStatus::kAccepted) {
    callbacks_.take(*introduction, std::move(connection));
  } else {
    spdlog::warn("a connection from {} was refused (status {})", connection.peer,
                 static_cast<int>(status));
  }
}

}  // namespace faultline
