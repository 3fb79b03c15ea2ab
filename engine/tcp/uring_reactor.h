// A Reactor on io_uring: one io_uring_enter per round submits what lanes and watches have queued
// and waits for whatever comes first.
//
// Watches are one-shot polls, armed again by the Wait after they fired: poll looks at the file as
// it is armed, so a descriptor that is still readable is reported again (level-triggered, as the
// interface promises). Multishot poll would report edges, and twice where a fault was read already.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "engine/tcp/tcp_reactor.h"
#include "engine/tcp/uring.h"

namespace faultline {

class UringReactor final : public TcpReactor {
 public:
  /// A lane on this reactor. Its operations are numbered 1 to 6; each may be in flight once.
  class Lane {
   public:
    /// Called by every Wait, just before it submits.
    virtual void QueueOperations(Nanos now) = 0;
    virtual void OnCompletion(unsigned operation, int result) = 0;
    [[nodiscard]] virtual bool HasNews() const = 0;
    /// Asked by every Wait that may wait, first of all: does looking for a reply pay now?
    virtual bool LooksForReply() = 0;
    /// Looks until `deadline` or until the ring has news; true: there is news of this lane.
    virtual bool LookForReply(Nanos deadline) = 0;

   protected:
    ~Lane() = default;
  };

  static Result<std::unique_ptr<UringReactor>> Create();

  void Watch(int fd, ReadyToken token) override;
  void Unwatch(ReadyToken token) override;
  ReadySet Wait(Nanos timeout) override;
  std::unique_ptr<PageChannel> OpenLane(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max,
                                        Unpacker* unpacker) override;
  [[nodiscard]] IoBackend backend() const override { return IoBackend::kUring; }

  // For lanes.
  void Attach(Lane& lane);
  void Detach(Lane& lane);
  io_uring_sqe& NextSqe() { return ring_->NextSqe(); }
  /// The entry's completion comes back as lane.OnCompletion(operation). Call after io_uring_prep_*.
  static void Tag(io_uring_sqe& sqe, Lane& lane, unsigned operation);
  void QueueCancel(Lane& lane, unsigned operation);
  /// A Pump would hand out something.
  [[nodiscard]] bool RingHasNews() const { return ring_->HasNews(); }
  /// Submits, waits at most `timeout` for a completion, hands out what is there.
  void Pump(Nanos timeout);
  /// False: the issuer is another thread, which has ended; nothing of it is in flight any more.
  [[nodiscard]] bool MayPump() const { return ring_->IsIssuer(); }

 private:
  static constexpr size_t kTokensMax = 64;
  struct WatchSlot {
    int fd = -1;
    bool armed = false;
    uint32_t generation = 0;  ///< tells a completion of an earlier watch from this one's
  };

  explicit UringReactor(std::unique_ptr<Uring> ring) : ring_(std::move(ring)) {}
  void QueueEverything(Nanos now);
  void ArmTick(Nanos now, Nanos at);
  void PumpUntil(Nanos deadline, Nanos now);
  bool LookForReplies(Nanos now);
  void ArmWatches();
  void Dispatch();
  void OnWatchFired(uint64_t user_data);
  void CollectNews();

  std::unique_ptr<Uring> ring_;
  std::array<WatchSlot, kTokensMax> watches_{};
  size_t watches_used_ = 0;  ///< slots from here on never had a watch
  std::array<Lane*, kLanesMax> lanes_{};
  __kernel_timespec tick_{};      ///< the kernel reads it while it submits
  Nanos tick_at_{0};              ///< when the newest tick in the kernel ends; zero: none is
  uint32_t tick_generation_ = 0;  ///< tells its completion from that of one it took over from
  ReadySet ready_;
};

}  // namespace faultline
