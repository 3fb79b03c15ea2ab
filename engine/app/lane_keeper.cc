#include "engine/app/lane_keeper.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>

#include "engine/app/prompt_thread.h"

namespace faultline {
namespace {

std::string_view LaneName(LaneKind kind) { return kind == LaneKind::kUrgent ? "urgent" : "bulk"; }

}  // namespace

Result<std::unique_ptr<LaneKeeper>> LaneKeeper::Create(Endpoint to, LaneIntroduction lane,
                                                       MakeServer make_server, FaultCores& cores) {
  std::unique_ptr<LaneKeeper> keeper(
      new LaneKeeper(std::move(to), lane, std::move(make_server), cores));
  FAULTLINE_TRY(keeper->Open());
  keeper->thread_ = std::thread([raw = keeper.get()] { raw->Run(); });
  return keeper;
}

LaneKeeper::LaneKeeper(Endpoint to, LaneIntroduction lane, MakeServer make_server,
                       FaultCores& cores)
    : to_(std::move(to)), lane_(lane), make_server_(std::move(make_server)), cores_(cores) {}

Status LaneKeeper::Open() {
  FAULTLINE_ASSIGN(Connection connection, Dial(to_, {.timeout = std::chrono::seconds(5)}));
  FAULTLINE_TRY(Greet(connection));
  {
    const std::lock_guard lock(mutex_);
    server_ended_ = false;
  }
  if (lane_.lane == LaneKind::kUrgent) SendFirst(connection.socket.get());
  LaneServer::Options options;
  options.fault_cores = &cores_;
  options.slot = lane_.stream;
  options.urgent = lane_.lane == LaneKind::kUrgent;
  options.packs = lane_.lane == LaneKind::kBulk;
  options.on_start = [kind = lane_.lane] {
    if (kind == LaneKind::kUrgent) RunPromptly();
    pthread_setname_np(pthread_self(), kind == LaneKind::kUrgent ? "fl-serve-fault" : "fl-serve");
  };
  options.on_end = [this] {
    const std::lock_guard lock(mutex_);
    server_ended_ = true;
    changed_.notify_all();
  };
  server_ = std::make_unique<LaneServer>(std::move(connection.socket), make_server_(),
                                         std::move(options));
  return {};
}

/// A peer whose kernel accepts and whose process does not answer must not keep Stop() waiting.
Status LaneKeeper::Greet(const Connection& connection) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Fail(ErrorKind::kTimeout, "the lane is stopped");
    greeting_ = connection.socket.get();
  }
  const Status greeted = Introduce(connection.socket.get(), lane_, connection.peer);
  const std::lock_guard lock(mutex_);
  greeting_ = -1;
  return greeted;
}

void LaneKeeper::Run() {
  Nanos backoff = kBackoffFirst;
  while (AwaitEnd()) {
    if (server_) {
      server_->Stop();
      spdlog::warn("the {} lane ended ({}); dialling again", LaneName(lane_.lane),
                   server_->reason());
      server_.reset();
    }
    ++lane_.generation;
    const Status opened = Open();
    if (opened.has_value()) {
      backoff = kBackoffFirst;
      const std::lock_guard lock(mutex_);
      ++redials_;
      continue;
    }
    spdlog::debug("{}", opened.error().message);
    if (!Pause(backoff)) break;
    backoff = std::min(backoff * 2, kBackoffMax);
  }
  server_.reset();
}

/// Sleeps; false when the keeper is to stop.
bool LaneKeeper::Pause(Nanos duration) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, duration, [this] { return stopping_; });
}

/// Waits until the server has ended; false when the keeper is to stop.
bool LaneKeeper::AwaitEnd() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || server_ended_; });
  return !stopping_;
}

void LaneKeeper::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (greeting_ >= 0) ::shutdown(greeting_, SHUT_RDWR);
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

uint64_t LaneKeeper::redials() const {
  const std::lock_guard lock(mutex_);
  return redials_;
}

}  // namespace faultline
