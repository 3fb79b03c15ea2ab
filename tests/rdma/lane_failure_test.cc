// A lane that fails: it says so, owes what it has not brought, and nothing lands once it is closed.
#include <gmock/gmock.h>

#include "tests/rdma/support/device_test_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::ElementsAre;
constexpr uint64_t kPages = 256;

class LaneFailureTest : public OnDevice {
 protected:
  /// Posts one run on a lane whose regions were changed by `spoil`, and awaits the end.
  static void ExpectBroken(void (*spoil)(std::vector<wire::RdmaRegion>&)) {
    const SourceEnd source(kPages, kPages);
    std::vector<wire::RdmaRegion> regions = source.regions;
    spoil(regions);
    ReadingEnd reading(source, regions);
    const auto lane = reading.Open(source);
    lane->Post(Pages(kPages - 8, 8));
    EXPECT_TRUE(reading.AwaitBroken(*lane));
    lane->Close();
    EXPECT_THAT(lane->Unanswered(), ElementsAre(Pages(kPages - 8, 8)));
    EXPECT_TRUE(reading.ram.HoldsZero(PageIndex(kPages - 8)));
  }
};

TEST_F(LaneFailureTest, AWrongKeyBreaksTheLane) {
  ExpectBroken([](std::vector<wire::RdmaRegion>& regions) { regions[0].key ^= 0x55; });
}

TEST_F(LaneFailureTest, AReadPastTheEndBreaksTheLane) {
  ExpectBroken([](std::vector<wire::RdmaRegion>& regions) { regions[0].address += 4096; });
}

TEST_F(LaneFailureTest, AKeyIsDeadOnceItsMemoryIsGivenBack) {
  SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  source.memory.clear();
  lane->Post(Pages(0, 1));
  EXPECT_TRUE(reading.AwaitBroken(*lane));
}

TEST_F(LaneFailureTest, ASourceThatEndsTheLaneIsNoticed) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  source.answerer->BreakLanes();
  EXPECT_TRUE(reading.AwaitBroken(*lane));
}

TEST_F(LaneFailureTest, ReadsOfALaneThatTheSourceHasEndedAreOwed) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  source.answerer->BreakLanes();
  lane->Post(Pages(9, 4));
  lane->Post(Pages(20, 1));
  EXPECT_TRUE(reading.AwaitBroken(*lane));
  lane->Close();
  EXPECT_THAT(lane->Unanswered(), ElementsAre(Pages(9, 4), Pages(20, 1)));
}

TEST_F(LaneFailureTest, WhatWasReapedBeforeIsNotOwed) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  lane->Post(Pages(1, 1));
  reading.Reap(*lane, 1);
  lane->Post(Pages(2, 1));
  lane->Close();
  EXPECT_THAT(lane->Unanswered(), ElementsAre(Pages(2, 1)));
}

TEST_F(LaneFailureTest, NothingLandsAfterClose) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  ASSERT_TRUE(reading.local.RegisterOne(0).has_value());
  for (uint64_t generation = 1; generation <= 20; ++generation) {
    const auto lane = reading.Open(source, generation);
    for (uint64_t run = 0; run < 4; ++run) lane->Post(Pages(run * 64, 64));
    reading.reactor.Wait(std::chrono::microseconds(100 * generation));
    lane->Close();
    const std::span<std::byte> all = reading.ram.BytesOf(reading.ram.All());
    std::fill(all.begin(), all.end(), std::byte{0xEE});
    reading.reactor.Wait(std::chrono::milliseconds(5));
    EXPECT_TRUE(
        std::all_of(all.begin(), all.end(), [](std::byte b) { return b == std::byte{0xEE}; }))
        << "generation " << generation;
  }
}

TEST_F(LaneFailureTest, ALaneCanBeBuiltAgain) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  auto lane = reading.Open(source, 1);
  source.answerer->BreakLanes();
  EXPECT_TRUE(reading.AwaitBroken(*lane));
  lane.reset();
  lane = reading.Open(source, 2);
  lane->Post(Pages(5, 3));
  EXPECT_THAT(reading.Reap(*lane, 3), ElementsAre(Pages(5, 3)));
  EXPECT_TRUE(reading.ram.HoldsPattern(PageIndex(7)));
}

TEST_F(LaneFailureTest, AFullFileBreaksTheLaneAndThePageIsOwed) {
  const SourceEnd source(kPages, kPages);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  reading.sink.full = true;
  lane->Post(Pages(5, 1));
  EXPECT_TRUE(reading.Reap(*lane, 1).empty());
  lane->Close();
  EXPECT_THAT(lane->Unanswered(), ElementsAre(Pages(5, 1)));
}

}  // namespace
}  // namespace faultline::testing
