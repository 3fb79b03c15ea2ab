#include "engine/app/lane_acceptor.h"

#include <spdlog/spdlog.h>

namespace faultline {

LaneAcceptor::LaneAcceptor(Listener listener, Callbacks callbacks)
    : listener_(std::move(listener)),
      callbacks_(std::move(callbacks)),
      thread_([this] { Run(); }) {}

void LaneAcceptor::Stop() {
  stopping_.store(true, std::memory_order_release);
  if (thread_.joinable()) thread_.join();
}

void LaneAcceptor::Run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    Result<Connection> connection = listener_.Accept(kAcceptSlice);
    if (connection.has_value()) {
      Welcome(std::move(*connection));
    } else if (connection.error().kind != ErrorKind::kTimeout) {
      spdlog::warn("{}", connection.error().message);
      std::this_thread::sleep_for(kAcceptSlice);  // out of descriptors, say: not a busy loop
    }
  }
}

void LaneAcceptor::Welcome(Connection connection) {
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
