// A source that lies, stalls, or stops in the middle: the lane breaks, and nothing ever lands
// outside the pages that were asked for.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>

#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

constexpr PageRun kRun{PageIndex(7), PageCount(3)};

class HostileSource : public testing::TestWithParam<LaneParameter> {
 protected:
  HostileSource() { NewLane(kPeerSilenceMax); }

  void NewLane(Nanos silence_max) {
    SocketPair sockets = Connect(std::get<1>(GetParam()));
    peer_ = std::move(sockets.source);
    lane_ = std::make_unique<DestinationLane>(std::get<0>(GetParam()), SmallGeometry(),
                                              std::move(sockets.destination), silence_max);
  }
  /// Pages outside `run` that hold anything else than before.
  [[nodiscard]] uint64_t PagesTouchedOutside(PageRun run) {
    uint64_t touched = 0;
    for (uint64_t page = 0; page < SmallGeometry().page_count().value(); ++page) {
      const std::span<std::byte> bytes = lane_->ram().Page(PageIndex(page));
      const bool untouched = IsFilledWith(bytes, kUntouched);
      touched += untouched || run.Contains(PageIndex(page)) ? 0U : 1U;
    }
    return touched;
  }
  /// The lane is asked for kRun and answered with `reply` and plenty of bytes.
  void ExpectBrokenBy(const wire::PageReply& reply) {
    SCOPED_TRACE(testing::Message()
                 << "kind " << reply.kind << " count " << reply.count << " first " << reply.first
                 << " id " << reply.id << " bits " << reply.data_pages);
    NewLane(kPeerSilenceMax);
    lane_->Post(kRun);
    SendBytes(peer_.get(), Joined({BytesOf(reply), Bytes(64 * 1024, std::byte{0xEE})}));
    EXPECT_TRUE(lane_->PumpUntilBroken());
    lane_->channel().Close();
    EXPECT_EQ(lane_->pages_arrived(), 0U);
    ASSERT_EQ(lane_->channel().Unanswered().size(), 1U);
    EXPECT_EQ(lane_->channel().Unanswered()[0], kRun);
    EXPECT_EQ(PagesTouchedOutside({PageIndex(0), PageCount(0)}), 0U);
  }

  tcp::UniqueFd peer_;
  std::unique_ptr<DestinationLane> lane_;
};
INSTANTIATE_TEST_SUITE_P(Lanes, HostileSource, EveryLane(), NameOf);

TEST_P(HostileSource, ALieInAnyHeaderFieldBreaksTheLane) {
  using Lie = std::function<void(wire::PageReply&)>;
  const Lie lies[] = {
      [](wire::PageReply& r) { r.kind = 0; },
      [](wire::PageReply& r) { r.kind = static_cast<uint32_t>(wire::PageMessage::kRequest); },
      [](wire::PageReply& r) { r.kind ^= 0x80000000U; },
      [](wire::PageReply& r) { r.count = 0; },
      [](wire::PageReply& r) { r.count = 2; },
      [](wire::PageReply& r) { r.count = 4; },
      [](wire::PageReply& r) { r.count = UINT32_MAX; },
      [](wire::PageReply& r) { r.first = 6; },
      [](wire::PageReply& r) { r.first = UINT64_MAX; },
      [](wire::PageReply& r) { r.first = uint64_t{1} << 52; },
      [](wire::PageReply& r) { r.id = 0; },
      [](wire::PageReply& r) { r.id = 2; },
      [](wire::PageReply& r) { r.id = UINT64_MAX; },
      [](wire::PageReply& r) { r.data_pages = 0b1111; },
      [](wire::PageReply& r) { r.data_pages |= uint64_t{1} << 63; },
      [](wire::PageReply& r) { r.data_pages = UINT64_MAX; },
      [](wire::PageReply& r) { r.looks = 2; },
      [](wire::PageReply& r) { r.looks = UINT16_MAX; },
  };
  for (const Lie& lie : lies) {
    wire::PageReply reply = HonestReply(kRun, 1);
    lie(reply);
    ExpectBrokenBy(reply);
  }
}

TEST_P(HostileSource, AReplyThatNobodyAskedForBreaksTheLane) {
  SendBytes(peer_.get(), BytesOf(HonestReply(kRun, 1)));
  EXPECT_TRUE(lane_->PumpUntilBroken());
  EXPECT_EQ(PagesTouchedOutside({PageIndex(0), PageCount(0)}), 0U);
}

TEST_P(HostileSource, AReplyGivenTwiceBreaksTheLaneAndTheFirstStands) {
  lane_->Post(kRun);
  const Bytes reply = Joined({BytesOf(HonestReply(kRun, 1)), Bytes(3 * 4096, std::byte{0x11})});
  SendBytes(peer_.get(), reply);
  SendBytes(peer_.get(), reply);
  EXPECT_TRUE(lane_->PumpUntilBroken());
  EXPECT_EQ(lane_->pages_arrived(), 3U);
  EXPECT_EQ(PagesTouchedOutside(kRun), 0U);
}

TEST_P(HostileSource, RepliesInAnotherOrderBreakTheLane) {
  lane_->Post({PageIndex(1), PageCount(1)});
  lane_->Post({PageIndex(2), PageCount(1)});
  SendBytes(peer_.get(), BytesOf(HonestReply({PageIndex(2), PageCount(1)}, 2)));
  EXPECT_TRUE(lane_->PumpUntilBroken());
  lane_->channel().Close();
  EXPECT_EQ(lane_->channel().Unanswered().size(), 2U);
}

TEST_P(HostileSource, GarbageBreaksTheLane) {
  lane_->Post(kRun);
  SendBytes(peer_.get(), BytesOf(std::string("HTTP/1.1 400 Bad Request\r\n\r\nwhatever this is")));
  EXPECT_TRUE(lane_->PumpUntilBroken());
  EXPECT_EQ(PagesTouchedOutside({PageIndex(0), PageCount(0)}), 0U);
}

TEST_P(HostileSource, TheEndOfTheStreamAtEveryByteLeavesTheRestUnanswered) {
  const PageRun run{PageIndex(7), PageCount(1)};
  const Bytes exchange = Joined({BytesOf(HonestReply(run, 1)), Bytes(4096, std::byte{0x22})});
  for (size_t length = 0; length < exchange.size(); length += length < 40 ? 1 : 61) {
    SCOPED_TRACE(length);
    NewLane(kPeerSilenceMax);
    lane_->Post(run);
    SendBytes(peer_.get(), std::span(exchange).first(length));
    peer_.Reset();
    ASSERT_TRUE(lane_->PumpUntilBroken());
    lane_->channel().Close();
    ASSERT_EQ(lane_->channel().Unanswered().size(), 1U);
    EXPECT_EQ(lane_->channel().Unanswered()[0], run);
    EXPECT_EQ(lane_->pages_arrived(), 0U);
    EXPECT_EQ(PagesTouchedOutside(run), 0U);
  }
}

TEST_P(HostileSource, PiecesThatWereWholeAreReportedAndTheRestIsUnanswered) {
  lane_->Post({PageIndex(0), PageCount(8)});
  lane_->Post({PageIndex(8), PageCount(2)});
  SendBytes(peer_.get(), Joined({BytesOf(HonestReply({PageIndex(0), PageCount(8)}, 1)),
                                 Bytes(5 * 4096 + 17, std::byte{0x33})}));
  EXPECT_TRUE(lane_->PumpUntilPages(5));
  peer_.Reset();
  EXPECT_TRUE(lane_->PumpUntilBroken());
  lane_->channel().Close();
  ASSERT_EQ(lane_->channel().Unanswered().size(), 2U);
  EXPECT_EQ(lane_->channel().Unanswered()[0], (PageRun{PageIndex(5), PageCount(3)}));
  EXPECT_EQ(lane_->channel().Unanswered()[1], (PageRun{PageIndex(8), PageCount(2)}));
}

TEST_P(HostileSource, APeerThatNeverAnswersBreaksTheLaneInBoundedTime) {
  NewLane(std::chrono::milliseconds(300));
  lane_->Post(kRun);
  EXPECT_TRUE(lane_->PumpUntilBroken());
}

TEST_P(HostileSource, APeerThatStallsInMidPayloadBreaksTheLaneInBoundedTime) {
  NewLane(std::chrono::milliseconds(300));
  lane_->Post(kRun);
  SendBytes(peer_.get(), Joined({BytesOf(HonestReply(kRun, 1)), Bytes(5000, std::byte{0x44})}));
  EXPECT_TRUE(lane_->PumpUntilBroken());
  EXPECT_EQ(lane_->pages_arrived(), 1U);
}

TEST_P(HostileSource, AnIdleLaneIsNotCalledSilent) {
  NewLane(std::chrono::milliseconds(100));
  for (int round = 0; round < 4; ++round) lane_->reactor().Wait(std::chrono::milliseconds(100));
  EXPECT_EQ(lane_->channel().Health(), LaneHealth::kOpen);
}

TEST_P(HostileSource, APeerThatResetsTheConnectionBreaksTheLane) {
  lane_->Post(kRun);
  const linger abort{1, 0};
  ::setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  peer_.Reset();
  EXPECT_TRUE(lane_->PumpUntilBroken());
}

}  // namespace
}  // namespace faultline::test
