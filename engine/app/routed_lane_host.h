// A lane host whose lanes have two ways (engine/core/routed_channel.h): READs where there is a
// queue pair, TCP for everything else. Without one it is a TcpLaneHost.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "engine/app/lane_host.h"
#include "engine/core/routed_channel.h"
#include "rdma/dial.h"
#include "rdma/read_channel.h"
#include "rdma/read_reactor.h"

namespace faultline {

class RoutedLaneHost final : public LaneHost, private DirectLanes {
 public:
  /// A connected queue pair, and the memory that its lane works with, which outlives the lane.
  struct Offer {
    rdma::Connection connection;
    rdma::ReadChannel::Memory memory;
  };
  /// `spin_max`: how long the thread may poll for a READ instead of sleeping.
  RoutedLaneHost(std::unique_ptr<TcpReactor> reactor, std::unique_ptr<LandingArea> area,
                 std::unique_ptr<Unpacker> unpacker, Nanos spin_max)
      : tcp_(std::move(reactor), std::move(area), std::move(unpacker)),
        reactor_(tcp_.reactor(), spin_max) {}

  Reactor& reactor() override { return reactor_; }
  std::unique_ptr<PageChannel> Open(tcp::UniqueFd socket) override {
    DirectLanes& lanes = *this;
    return std::make_unique<RoutedChannel>(tcp_.Open(std::move(socket)), lanes);
  }
  [[nodiscard]] bool full() const override { return tcp_.full(); }
  void OnNews(std::function<void()> ring) override { ring_ = std::move(ring); }

  /// The lane takes it at once. Replaces one that it has not taken yet. Any thread.
  void Give(Offer offer);
  /// `on_lost` runs on the lane's thread whenever a lane of READs is gone: another may be given.
  /// Before the first Give.
  void OnLost(std::function<void()> on_lost) { on_lost_ = std::move(on_lost); }
  /// A lane of READs is in use. Any thread.
  [[nodiscard]] bool is_reading() const { return reading_.load(std::memory_order_relaxed); }

 private:
  std::unique_ptr<DirectChannel> TakeDirect() override;
  void NoteDirectLost() override;

  TcpLaneHost tcp_;
  rdma::ReadReactor reactor_;
  std::function<void()> on_lost_ = [] {};
  std::function<void()> ring_ = [] {};
  std::atomic<bool> offered_{false};
  std::atomic<bool> reading_{false};
  std::mutex mutex_;  ///< guards offer_
  std::unique_ptr<Offer> offer_;
};

}  // namespace faultline
