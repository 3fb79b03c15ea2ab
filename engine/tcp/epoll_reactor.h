// A Reactor on epoll (epoll(7), level-triggered): where io_uring is not to be had.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "engine/tcp/tcp_reactor.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

class EpollReactor final : public TcpReactor {
 public:
  /// A lane on this reactor.
  class Lane {
   public:
    /// Called by every Wait, before it waits: send what is queued.
    virtual void Flush(Nanos now) = 0;
    virtual void OnReady(uint32_t events) = 0;
    [[nodiscard]] virtual bool HasNews() const = 0;
    /// StreamChannel's.
    [[nodiscard]] virtual bool LooksForReply() = 0;
    virtual void NoteLooked(bool came) = 0;

   protected:
    ~Lane() = default;
  };

  static Result<std::unique_ptr<EpollReactor>> Create();

  void Watch(int fd, ReadyToken token) override;
  void Unwatch(ReadyToken token) override;
  ReadySet Wait(Nanos timeout) override;
  std::unique_ptr<PageChannel> OpenLane(tcp::UniqueFd socket, LandingArea& area, Nanos silence_max,
                                        Unpacker* unpacker) override;
  [[nodiscard]] IoBackend backend() const override { return IoBackend::kEpoll; }

  // For lanes.
  void Attach(Lane& lane, int fd);
  void Detach(Lane& lane, int fd);
  void WantWritable(Lane& lane, int fd, bool wanted);

 private:
  static constexpr size_t kTokensMax = 64;

  explicit EpollReactor(tcp::UniqueFd epoll) : epoll_(std::move(epoll)) { watches_.fill(-1); }
  void LookForReply(Nanos now);
  void FlushLanes(Nanos now);
  void WaitOnce(Nanos timeout);
  void CollectNews();
  [[nodiscard]] size_t SlotOf(const Lane& lane) const;

  tcp::UniqueFd epoll_;
  std::array<int, kTokensMax> watches_{};
  std::array<Lane*, kLanesMax> lanes_{};
  ReadySet ready_;
};

}  // namespace faultline
