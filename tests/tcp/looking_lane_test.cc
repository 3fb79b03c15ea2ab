// The destination's lane beside a source that looks for requests: replies are looked for, too, and
// whatever does not come in time is slept for as ever.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "engine/tcp/deadline.h"
#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;

class LookingLane : public LaneToPeer {
 protected:
  static PageRun Page(uint64_t page) { return {PageIndex(page), PageCount(1)}; }
  /// Each page full of its number.
  void Answer(uint64_t page, uint64_t id) const {
    wire::PageReply reply = HonestReply(Page(page), id);
    reply.looks = 1;
    SendBytes(peer_.get(), Joined({BytesOf(reply), Bytes(4096, static_cast<std::byte>(page))}));
  }
  void Fetch(uint64_t page, uint64_t id) {
    lane_->Post(Page(page));
    Answer(page, id);
    ASSERT_TRUE(lane_->PumpUntilPages(id));
    EXPECT_TRUE(Holds(page));
  }
  bool Holds(uint64_t page) {
    return IsFilledWith(lane_->ram().Page(PageIndex(page)), static_cast<std::byte>(page));
  }
};
INSTANTIATE_TEST_SUITE_P(Lanes, LookingLane, EveryLane(), NameOf);

TEST_P(LookingLane, RepliesLandOneByOneAndSeveralAtOnce) {
  uint64_t id = 0;
  for (uint64_t page = 1; page <= 50; ++page) Fetch(page, ++id);
  for (uint64_t page = 51; page <= 55; ++page) lane_->Post(Page(page));
  for (uint64_t page = 51; page <= 55; ++page) Answer(page, ++id);
  ASSERT_TRUE(lane_->PumpUntilPages(id));
  for (uint64_t page = 51; page <= 55; ++page) EXPECT_TRUE(Holds(page)) << page;
}

TEST_P(LookingLane, AReplyThatComesLateIsSleptFor) {
  Fetch(1, 1);
  for (uint64_t id = 2; id <= 8; ++id) {
    lane_->Post(Page(id));
    std::thread late([&] {
      std::this_thread::sleep_for(milliseconds(5));
      Answer(id, id);
    });
    const bool came = lane_->PumpUntilPages(id);
    late.join();
    ASSERT_TRUE(came);
    EXPECT_TRUE(Holds(id));
  }
}

TEST_P(LookingLane, AReplyInPiecesIsPutTogether) {
  Fetch(1, 1);
  lane_->Post(Page(2));
  wire::PageReply header = HonestReply(Page(2), 2);
  header.looks = 1;
  const Bytes reply = Joined({BytesOf(header), Bytes(4096, std::byte{2})});
  std::thread slow([&] {
    for (size_t at = 0; at < reply.size(); at += 517) {
      SendBytes(peer_.get(),
                std::span(reply).subspan(at, std::min<size_t>(517, reply.size() - at)));
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  const bool came = lane_->PumpUntilPages(2);
  slow.join();
  ASSERT_TRUE(came);
  EXPECT_TRUE(Holds(2));
}

// Nothing is awaited, and so nothing received: the end has to be noticed all the same.
TEST_P(LookingLane, APeerThatGoesWhileNothingIsAwaitedBreaksTheLane) {
  Fetch(1, 1);
  peer_.Reset();
  EXPECT_TRUE(lane_->PumpUntilBroken());
}

TEST_P(LookingLane, WhatThePeerSentBeforeItWentLands) {
  Fetch(1, 1);
  lane_->Post(Page(2));
  Answer(2, 2);
  ::shutdown(peer_.get(), SHUT_WR);  // not closed: it has not read the requests
  EXPECT_TRUE(lane_->PumpUntilPages(2));
  EXPECT_TRUE(lane_->PumpUntilBroken());
  EXPECT_TRUE(Holds(2));
}

TEST_P(LookingLane, AFaultIsReportedWhileAReplyIsLookedFor) {
  const tcp::UniqueFd fault(::eventfd(0, EFD_NONBLOCK));
  lane_->reactor().Watch(fault.get(), ReadyToken::kFaults);
  Fetch(1, 1);
  lane_->Post(Page(2));
  lane_->channel().SendNow();
  const uint64_t one = 1;
  ASSERT_EQ(::write(fault.get(), &one, sizeof one), 8);
  for (int wait = 0; wait < 3; ++wait) {
    const ReadySet ready = lane_->reactor().Wait(milliseconds(500));
    EXPECT_TRUE(ready.Has(ReadyToken::kFaults)) << "until it is read";
  }
  Answer(2, 2);
  EXPECT_TRUE(lane_->PumpUntilPages(2));
}

TEST_P(LookingLane, ClosedBehindALookItKeepsWhatWasNotAnswered) {
  Fetch(1, 1);
  lane_->Post(Page(2));
  lane_->reactor().Wait(milliseconds(1));
  lane_->channel().Close();
  ASSERT_EQ(lane_->channel().Unanswered().size(), 1U);
  EXPECT_EQ(lane_->channel().Unanswered()[0], Page(2));
}

}  // namespace
}  // namespace faultline::test
