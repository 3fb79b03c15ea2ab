// What a lane thread opens its lanes on: a reactor, and the way from a connected socket to a lane.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "engine/core/landing_area.h"
#include "engine/core/page_channel.h"
#include "engine/core/reactor.h"
#include "engine/tcp/packing.h"
#include "engine/tcp/tcp_reactor.h"

namespace faultline {

/// Made anywhere, used by one thread.
class LaneHost {
 public:
  virtual ~LaneHost() = default;
  virtual Reactor& reactor() = 0;
  /// A lane over a connected socket whose preamble has been exchanged.
  virtual std::unique_ptr<PageChannel> Open(tcp::UniqueFd socket) = 0;
  /// The guest's RAM file has no room for what arrives.
  [[nodiscard]] virtual bool full() const = 0;
  /// `ring` ends a wait of the lane's thread: for what its reactor cannot see. Runs on any thread.
  /// Before anybody else knows the host.
  virtual void OnNews(std::function<void()> /*ring*/) {}
};

/// Pages come over TCP, all of them.
class TcpLaneHost final : public LaneHost {
 public:
  /// `unpacker`: runs may come packed; none: they do not.
  TcpLaneHost(std::unique_ptr<TcpReactor> reactor, std::unique_ptr<LandingArea> area,
              std::unique_ptr<Unpacker> unpacker)
      : area_(std::move(area)), unpacker_(std::move(unpacker)), reactor_(std::move(reactor)) {}
  Reactor& reactor() override { return *reactor_; }
  std::unique_ptr<PageChannel> Open(tcp::UniqueFd socket) override {
    return reactor_->OpenLane(std::move(socket), *area_, kPeerSilenceMax, unpacker_.get());
  }
  [[nodiscard]] bool full() const override { return area_->full(); }

 private:
  const std::unique_ptr<LandingArea> area_;
  const std::unique_ptr<Unpacker> unpacker_;
  const std::unique_ptr<TcpReactor> reactor_;
};

}  // namespace faultline
