// A page lane against the real lane server, over real loopback connections, on every backend.
#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <future>
#include <thread>

#include "engine/core/zero_check.h"
#include "engine/tcp/lane_server.h"
#include "tests/tcp/loopback.h"

namespace faultline::test {
namespace {

class PageLane : public testing::TestWithParam<LaneParameter> {
 protected:
  /// A lane to a server of a new guest.
  DestinationLane Serve(const Geometry& geometry, uint64_t seed) {
    SocketPair sockets = Connect(std::get<1>(GetParam()));
    guest_ = std::make_unique<SourceGuest>(geometry, seed);
    server_ = std::make_unique<LaneServer>(std::move(sockets.source), guest_->MakeServer());
    return DestinationLane(std::get<0>(GetParam()), geometry, std::move(sockets.destination));
  }

  std::unique_ptr<SourceGuest> guest_;
  std::unique_ptr<LaneServer> server_;
};
INSTANTIATE_TEST_SUITE_P(Lanes, PageLane, EveryLane(), NameOf);

/// Pages whose landing place differs from what the arrivals and the source say it must hold.
uint64_t WrongPages(DestinationLane& lane, const GuestRam& source) {
  uint64_t wrong = 0;
  for (const Arrival& arrival : lane.arrivals()) {
    for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page) {
      const std::span<std::byte> landed = lane.ram().Page(page);
      const std::span<std::byte> sent = source.Page(page);
      const bool sent_zero = IsAllZero(sent);
      const bool untouched = IsFilledWith(landed, kUntouched);
      const bool right = arrival.zero ? sent_zero && untouched : std::ranges::equal(landed, sent);
      wrong += right ? 0U : 1U;
    }
  }
  return wrong;
}

std::vector<int> ArrivalsPerPage(const DestinationLane& lane, const Geometry& geometry) {
  std::vector<int> times(geometry.page_count().value());
  for (const Arrival& arrival : lane.arrivals()) {
    for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page) {
      ++times[page.value()];
    }
  }
  return times;
}

TEST_P(PageLane, RandomRunsOverAllRegionsLandRightAndOnce) {
  const uint64_t seed = Seed();
  Random random(seed);
  DestinationLane lane = Serve(MixedGeometry(), seed);
  ASSERT_TRUE(lane.FetchAll(RandomCover(MixedGeometry(), random)));
  EXPECT_EQ(WrongPages(lane, guest_->ram()), 0U);
  EXPECT_EQ(std::ranges::count(ArrivalsPerPage(lane, MixedGeometry()), 1),
            std::ssize(ArrivalsPerPage(lane, MixedGeometry())));
  lane.channel().Close();
  EXPECT_TRUE(lane.channel().Unanswered().empty());
}

TEST_P(PageLane, HundredsOfRequestsAreOnTheirWayAtOnce) {
  DestinationLane lane = Serve(MixedGeometry(), Seed());
  const size_t room = lane.channel().Room();
  ASSERT_GE(room, 256U);
  for (uint64_t page = 0; page < room; ++page) lane.Post({PageIndex(page), PageCount(1)});
  EXPECT_EQ(lane.channel().Room(), 0U);
  ASSERT_TRUE(lane.PumpUntilPages(room));
  EXPECT_EQ(WrongPages(lane, guest_->ram()), 0U);
  EXPECT_EQ(lane.channel().Room(), room);
}

TEST_P(PageLane, SinglePagesGoAndComeOneByOne) {
  DestinationLane lane = Serve(SmallGeometry(), Seed());
  for (uint64_t page = 0; page < SmallGeometry().page_count().value(); ++page) {
    lane.Post({PageIndex(page), PageCount(1)});
    ASSERT_TRUE(lane.PumpUntilPages(page + 1));
  }
  EXPECT_EQ(WrongPages(lane, guest_->ram()), 0U);
}

TEST_P(PageLane, WhatWasSentAtOnceIsNotSentAgain) {
  DestinationLane lane = Serve(SmallGeometry(), Seed());
  const uint64_t pages = SmallGeometry().page_count().value();
  for (uint64_t page = 0; page < pages; ++page) {
    lane.Post({PageIndex(page), PageCount(1)});
    if (page % 2 == 0) lane.channel().SendNow();
    if (page % 3 == 0) {
      ASSERT_TRUE(lane.PumpUntilPages(page + 1));
    }
  }
  ASSERT_TRUE(lane.PumpUntilPages(pages));
  EXPECT_EQ(WrongPages(lane, guest_->ram()), 0U);
  server_->Stop();
  EXPECT_EQ(server_->stats().requests, pages);
}

/// Sends a signal to one thread, again and again, until destroyed. Its handler does nothing, and
/// without SA_RESTART every call that waits is interrupted: sends end in the middle.
class SignalStorm {
 public:
  explicit SignalStorm(pthread_t target) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    thread_ = std::thread([this, target] {
      while (!stop_) {
        ::pthread_kill(target, SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  }
  ~SignalStorm() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_P(PageLane, SignalsInTheMiddleOfSendsAndReceivesLoseNoByte) {
  const uint64_t seed = Seed();
  Random random(seed);
  guest_ = std::make_unique<SourceGuest>(MixedGeometry(), seed);
  SocketPair sockets = Connect(std::get<1>(GetParam()));
  std::promise<pthread_t> started;
  LaneServer::Options options;
  options.on_start = [&] { started.set_value(::pthread_self()); };
  server_ = std::make_unique<LaneServer>(std::move(sockets.source), guest_->MakeServer(),
                                         std::move(options));
  const pthread_t server_thread = started.get_future().get();
  DestinationLane lane(std::get<0>(GetParam()), MixedGeometry(), std::move(sockets.destination));
  const SignalStorm at_the_source(server_thread);
  const SignalStorm at_the_destination(::pthread_self());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(lane.FetchAll(RandomCover(MixedGeometry(), random)));
  }
  EXPECT_EQ(WrongPages(lane, guest_->ram()), 0U);
}

TEST_P(PageLane, WireBytesCountEveryByteOfBothDirections) {
  DestinationLane lane = Serve(SmallGeometry(), Seed());
  ASSERT_TRUE(lane.FetchAll({{PageIndex(0), PageCount(64)}, {PageIndex(64), PageCount(1)}}));
  lane.channel().Close();
  server_->Stop();
  const LaneServer::Stats stats = server_->stats();
  EXPECT_EQ(lane.channel().WireBytes().value(), stats.received_bytes + stats.sent_bytes);
  EXPECT_EQ(stats.requests, 2U);
  EXPECT_EQ(stats.pages, 65U);
}

TEST_P(PageLane, ALaneOfTheNextGenerationWorksOnTheSameReactor) {
  DestinationLane lane = Serve(SmallGeometry(), Seed());
  ASSERT_TRUE(lane.FetchAll({{PageIndex(0), PageCount(8)}}));
  lane.channel().Close();
  SocketPair again = Connect(std::get<1>(GetParam()));
  LaneServer server(std::move(again.source), guest_->MakeServer());
  auto next = lane.reactor().OpenLane(std::move(again.destination), lane.ram().landing());
  next->Post({PageIndex(8), PageCount(8)});
  std::array<Arrival, 8> arrivals;
  size_t count = 0;
  ASSERT_TRUE(lane.PumpUntil([&] { return count > 0 || (count = next->Reap(arrivals)) > 0; }));
  EXPECT_EQ(arrivals[0].run.first, PageIndex(8));
}

}  // namespace
}  // namespace faultline::test
