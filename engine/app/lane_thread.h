// A thread at the destination that runs one loop (FaultLoop or Pusher) for the whole migration,
// while lanes come and go under it.
//
// The owner hands in connected sockets; the thread itself opens the lane on its own reactor, so
// that everything on the data path belongs to one thread. Without a lane the loop runs on: faults
// are listed, zero pages placed.
#pragma once

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>

#include "engine/app/lane_host.h"
#include "engine/app/prompt_thread.h"
#include "engine/core/check.h"
#include "engine/core/fault_loop.h"
#include "engine/tcp/keep_off.h"

namespace faultline {

/// Loop is FaultLoop or Pusher. Threads: every method from any thread but the loop's own.
template <class Loop>
class LaneThread {
 public:
  /// How long a step may sleep: a pusher's that has a lane, for it paces itself and begins its
  /// rounds anew; …
  static constexpr Nanos kPushTimeout = std::chrono::milliseconds(5);
  /// … and of who has only to be rung for: a core that wakes up for nothing may be the one where a
  /// fault is on its way.
  static constexpr Nanos kQuietTimeout = std::chrono::milliseconds(100);

  /// `make_loop(reactor)` builds the loop on the host's reactor. `keep_off`: for a pusher.
  template <class MakeLoop>
  LaneThread(std::string name, std::unique_ptr<LaneHost> host, MakeLoop make_loop,
             std::optional<KeepOff> keep_off = std::nullopt)
      : name_(std::move(name)),
        mailbox_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        host_(std::move(host)),
        loop_(make_loop(host_->reactor())),
        keep_off_(keep_off) {
    FAULTLINE_CHECK(mailbox_.valid());
    host_->OnNews([this] { Ring(); });
    thread_ = std::thread([this] { Run(); });
    pthread_setname_np(thread_.native_handle(), name_.substr(0, 15).c_str());
  }
  LaneThread(const LaneThread&) = delete;
  LaneThread& operator=(const LaneThread&) = delete;
  ~LaneThread() { Stop(); }

  /// Replaces the lane. A lane that is still open is closed first and what it owed given back.
  void GiveLane(tcp::UniqueFd socket) {
    {
      const std::lock_guard lock(mutex_);
      new_lane_ = std::move(socket);
    }
    Ring();
  }

  /// Ends a wait: there is something to do that the loop's reactor does not see.
  void Ring() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(mailbox_.get(), &one, sizeof one);
  }

  /// Returns when a step has ended since: what that step counted can be read. Bounded.
  void AwaitStep() {
    if (!thread_.joinable()) return;
    const uint64_t before = steps_.load(std::memory_order_acquire);
    Ring();
    for (int i = 0; i < kAwaitStepPolls && steps_.load(std::memory_order_acquire) == before; ++i) {
      std::this_thread::sleep_for(kAwaitStepPoll);
    }
  }

  /// The migration is over: the peer may close the lane, and that is no loss.
  void ExpectEnd() { end_expected_.store(true, std::memory_order_release); }

  /// Closes the lane and joins. May be called again.
  void Stop() {
    stopping_.store(true, std::memory_order_release);
    Ring();
    if (thread_.joinable()) thread_.join();
  }

  [[nodiscard]] bool guest_gone() const { return guest_gone_.load(std::memory_order_acquire); }
  [[nodiscard]] uint64_t lanes_lost() const { return lanes_lost_.load(std::memory_order_relaxed); }
  /// Bytes of all lanes that this thread had, as of its last step.
  [[nodiscard]] ByteCount wire_bytes() const {
    return ByteCount(wire_bytes_.load(std::memory_order_relaxed));
  }

 private:
  static constexpr bool kIsPusher = !std::is_same_v<Loop, FaultLoop>;
  static constexpr Nanos kAwaitStepPoll = std::chrono::microseconds(50);
  static constexpr Nanos kRoomPause = std::chrono::milliseconds(500);
  static constexpr int kAwaitStepPolls = 2'000;  ///< 0.1 s

  void Run() {
    // A demand fetch is waited for; what is pushed is not.
    if constexpr (!kIsPusher) RunPromptly();
    host_->reactor().Watch(mailbox_.get(), ReadyToken::kMailbox);
    while (!stopping_.load(std::memory_order_acquire) && !guest_gone()) {
      if (keep_off_) keep_off_->Look();
      const StepResult result = loop_->Step(StepTimeout());
      if (result == StepResult::kGuestGone) guest_gone_.store(true, std::memory_order_release);
      if (result == StepResult::kLaneLost) NoteLaneLost();
      wire_bytes_.store(loop_->wire_bytes().value(), std::memory_order_relaxed);
      steps_.fetch_add(1, std::memory_order_release);
      if (loop_->ready().Has(ReadyToken::kMailbox)) OpenMail();
    }
    loop_->DropLane();
  }

  void OpenMail() {
    uint64_t rings = 0;
    [[maybe_unused]] const ssize_t got = read(mailbox_.get(), &rings, sizeof rings);
    tcp::UniqueFd socket;
    {
      const std::lock_guard lock(mutex_);
      socket = std::move(new_lane_);
    }
    if (!socket.valid()) return;
    loop_->DropLane();
    loop_->SetLane(host_->Open(std::move(socket)));
    spdlog::debug("{}: lane open", name_);
  }

  void NoteLaneLost() {
    if (end_expected_.load(std::memory_order_acquire)) return;
    lanes_lost_.fetch_add(1, std::memory_order_relaxed);
    if (host_->full()) return AwaitRoom();
    spdlog::warn("{}: the lane is lost; its pages will be asked for again", name_);
  }

  /// A pusher's only: it tries again for as long as it takes, but not as fast as it can.
  void AwaitRoom() {
    spdlog::error("{}: no memory left for guest RAM: make room on its tmpfs; the guest waits",
                  name_);
    std::this_thread::sleep_for(kRoomPause);
  }

  [[nodiscard]] Nanos StepTimeout() const {
    // Rung for during the last step, perhaps behind what that had looked at.
    if (loop_->ready().Has(ReadyToken::kMailbox)) return Nanos(0);
    return kIsPusher && loop_->has_lane() ? kPushTimeout : kQuietTimeout;
  }

  const std::string name_;
  tcp::UniqueFd mailbox_;
  const std::unique_ptr<LaneHost> host_;
  std::unique_ptr<Loop> loop_;
  std::optional<KeepOff> keep_off_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> end_expected_{false};
  std::atomic<bool> guest_gone_{false};
  std::atomic<uint64_t> lanes_lost_{0};
  std::atomic<uint64_t> wire_bytes_{0};
  std::atomic<uint64_t> steps_{0};
  std::mutex mutex_;  ///< guards new_lane_
  tcp::UniqueFd new_lane_;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
