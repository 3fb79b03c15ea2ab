// Real connections over the loopback device, and a page lane's destination side on each backend.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "engine/core/page_channel.h"
#include "engine/tcp/socket.h"
#include "engine/tcp/tcp_reactor.h"
#include "engine/tcp/unique_fd.h"
#include "tests/tcp/guest_ram.h"

namespace faultline::test {

enum class Family { kV4, kV6 };

/// A connected pair; `source` dialled.
struct SocketPair {
  tcp::UniqueFd source;
  tcp::UniqueFd destination;
};
SocketPair Connect(Family family);
Endpoint AnyPort(Family family);

using LaneParameter = std::tuple<IoPreference, Family>;
std::string NameOf(const testing::TestParamInfo<LaneParameter>& info);

/// Every combination, for INSTANTIATE_TEST_SUITE_P.
inline auto EveryLane() {
  return testing::Combine(testing::Values(IoPreference::kUring, IoPreference::kEpoll),
                          testing::Values(Family::kV4, Family::kV6));
}

/// The destination's end of one page lane.
class DestinationLane {
 public:
  DestinationLane(IoPreference preference, const Geometry& geometry, tcp::UniqueFd socket,
                  Nanos silence_max = kPeerSilenceMax, Unpacker* unpacker = nullptr);

  GuestRam& ram() { return ram_; }
  PageChannel& channel() { return *channel_; }
  TcpReactor& reactor() { return *reactor_; }
  const std::vector<Arrival>& arrivals() const { return arrivals_; }
  [[nodiscard]] uint64_t pages_arrived() const { return pages_arrived_; }

  void Post(PageRun run) { channel_->Post(run); }
  /// Waits and reaps until `done()` or ten seconds have passed; false then.
  bool PumpUntil(const std::function<bool()>& done);
  bool PumpUntilBroken();
  bool PumpUntilPages(uint64_t pages);
  /// Posts all runs as room allows, and pumps until every page has arrived.
  bool FetchAll(const std::vector<PageRun>& runs);

 private:
  GuestRam ram_;
  std::unique_ptr<TcpReactor> reactor_;
  std::unique_ptr<PageChannel> channel_;
  std::vector<Arrival> arrivals_;
  uint64_t pages_arrived_ = 0;
};

/// A destination's lane, on each backend, to a peer whose bytes the test sends itself.
class LaneToPeer : public testing::TestWithParam<LaneParameter> {
 protected:
  LaneToPeer() {
    SocketPair sockets = Connect(std::get<1>(GetParam()));
    peer_ = std::move(sockets.source);
    lane_ = std::make_unique<DestinationLane>(std::get<0>(GetParam()), SmallGeometry(),
                                              std::move(sockets.destination));
  }

  tcp::UniqueFd peer_;
  std::unique_ptr<DestinationLane> lane_;
};

/// What every byte of a landing place holds before anything lands.
inline constexpr std::byte kUntouched{0xA5};

}  // namespace faultline::test
