// A lane with two ways: what goes which way, and that losing one loses no page.
#include "engine/core/routed_channel.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/unit/fakes.h"

namespace faultline::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

/// Reads the pages of `readable`, is otherwise a ScriptedLane.
class ScriptedDirect final : public DirectChannel {
 public:
  ScriptedDirect(LaneScript& script, PageRun readable) : lane_(script), readable_(readable) {}
  [[nodiscard]] Route RouteOf(PageRun run) const override {
    const bool direct = readable_.Contains(run.first);
    PageIndex end = run.end();
    if (direct) end = std::min(end, readable_.end());
    if (run.first < readable_.first) end = std::min(end, readable_.first);
    return {{run.first, end - run.first}, direct};
  }
  [[nodiscard]] size_t Room() const override { return lane_.Room(); }
  void Post(PageRun run) override { lane_.Post(run); }
  void SendNow() override { lane_.SendNow(); }
  size_t Reap(std::span<Arrival> out) override { return lane_.Reap(out); }
  [[nodiscard]] LaneHealth Health() const override { return lane_.Health(); }
  void Close() override { lane_.Close(); }
  [[nodiscard]] std::span<const PageRun> Unanswered() const override { return lane_.Unanswered(); }
  [[nodiscard]] ByteCount WireBytes() const override { return lane_.WireBytes(); }

 private:
  ScriptedLane lane_;
  const PageRun readable_;
};

class OneDirect final : public DirectLanes {
 public:
  std::unique_ptr<DirectChannel> TakeDirect() override { return std::move(next); }
  void NoteDirectLost() override { ++lost; }
  std::unique_ptr<DirectChannel> next;
  int lost = 0;
};

class RoutedChannelTest : public ::testing::Test {
 protected:
  RoutedChannelTest() {
    served_.room = direct_.room = 100;
    lanes_.next = std::make_unique<ScriptedDirect>(direct_, Pages(10, 10));
    lane_.emplace(std::make_unique<ScriptedLane>(served_), lanes_);
  }
  size_t Reap() {
    std::array<Arrival, 8> arrivals;
    return lane_->Reap(arrivals);
  }

  LaneScript served_;
  LaneScript direct_;
  OneDirect lanes_;
  std::optional<RoutedChannel> lane_;
};

TEST_F(RoutedChannelTest, PagesThatCanBeReadAreRead) {
  lane_->Post(Pages(12, 4));
  EXPECT_THAT(direct_.posted, ElementsAre(Pages(12, 4)));
  EXPECT_THAT(served_.posted, IsEmpty());
}

TEST_F(RoutedChannelTest, WhatIsWaitedForLeavesAtOnceOnBothWays) {
  lane_->Post(Pages(12, 1));
  lane_->Post(Pages(1, 1));
  lane_->SendNow();
  EXPECT_THAT(direct_.sent_at, ElementsAre(1U));
  EXPECT_THAT(served_.sent_at, ElementsAre(1U));
}

TEST_F(RoutedChannelTest, ARunIsSplitWhereItsWayChanges) {
  lane_->Post(Pages(5, 30));
  EXPECT_THAT(direct_.posted, ElementsAre(Pages(10, 10)));
  EXPECT_THAT(served_.posted, ElementsAre(Pages(5, 5), Pages(20, 15)));
}

TEST_F(RoutedChannelTest, ArrivalsOfBothWaysComeOutOfOneLane) {
  direct_.arrivals.push_back({Pages(12, 4), false});
  served_.arrivals.push_back({Pages(1, 1), true});
  EXPECT_EQ(Reap(), 2U);
}

TEST_F(RoutedChannelTest, RoomIsForRunsThatAreSplit) {
  served_.room = 8;
  EXPECT_EQ(lane_->Room(), 2U);
  served_.room = 3;
  EXPECT_EQ(lane_->Room(), 0U);
}

TEST_F(RoutedChannelTest, WhatALostDirectLaneOwedIsServed) {
  lane_->Post(Pages(12, 4));
  direct_.broken = true;
  direct_.unanswered = {Pages(12, 4)};
  EXPECT_EQ(Reap(), 0U);
  EXPECT_TRUE(direct_.closed);
  EXPECT_THAT(served_.posted, ElementsAre(Pages(12, 4)));
  EXPECT_EQ(lane_->Health(), LaneHealth::kOpen);
  EXPECT_EQ(lanes_.lost, 1);
}

TEST_F(RoutedChannelTest, WhatIsOwedWaitsForRoomAndNothingGoesBefore) {
  served_.room = 0;
  direct_.broken = true;
  direct_.unanswered = {Pages(12, 4), Pages(17, 1)};
  Reap();
  EXPECT_THAT(served_.posted, IsEmpty());
  served_.room = 1;
  EXPECT_EQ(lane_->Room(), 0U);
  Reap();
  EXPECT_EQ(served_.posted.size(), 1U);
  served_.room = 1;
  Reap();
  EXPECT_THAT(served_.posted, UnorderedElementsAre(Pages(12, 4), Pages(17, 1)));
}

TEST_F(RoutedChannelTest, WithoutADirectLaneEverythingIsServed) {
  direct_.broken = true;
  Reap();
  lane_->Post(Pages(12, 4));
  EXPECT_THAT(served_.posted, ElementsAre(Pages(12, 4)));
}

TEST_F(RoutedChannelTest, ANewDirectLaneIsTakenWhenThereIsOne) {
  direct_.broken = true;
  Reap();
  LaneScript newer;
  newer.room = 100;
  lanes_.next = std::make_unique<ScriptedDirect>(newer, Pages(0, 100));
  Reap();
  lane_->Post(Pages(1, 1));
  EXPECT_THAT(newer.posted, ElementsAre(Pages(1, 1)));
  lane_.reset();
}

TEST_F(RoutedChannelTest, ClosedItOwesWhatBothWaysOwed) {
  direct_.unanswered = {Pages(12, 4)};
  served_.unanswered = {Pages(1, 2)};
  lane_->Close();
  EXPECT_TRUE(direct_.closed);
  EXPECT_TRUE(served_.closed);
  EXPECT_THAT(lane_->Unanswered(), UnorderedElementsAre(Pages(12, 4), Pages(1, 2)));
}

}  // namespace
}  // namespace faultline::test
