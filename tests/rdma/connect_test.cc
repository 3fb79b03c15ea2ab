// Who may connect, and what a newer generation does to an older one.
#include <gmock/gmock.h>

#include <thread>

#include "tests/rdma/support/device_test_fixture.h"

namespace faultline::testing {
namespace {

using ConnectTest = OnDevice;

TEST_F(ConnectTest, ALaneOfTheMigrationIsAccepted) {
  const SourceEnd source(1, 1);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source);
  EXPECT_EQ(lane->Health(), LaneHealth::kOpen);
  EXPECT_EQ(source.answerer->lane_count(), 1U);
}

TEST_F(ConnectTest, AStrangerIsRejected) {
  const SourceEnd source(1, 1);
  ReadingEnd reading(source, source.regions);
  wire::LaneIdentity stranger = source.Lane();
  stranger.migration[0] ^= 1;
  const auto dialled = rdma::Dial(reading.reader, source.Plan(), stranger);
  ASSERT_FALSE(dialled.has_value());
  EXPECT_EQ(dialled.error().kind, ErrorKind::kPeer);
  EXPECT_EQ(source.answerer->lane_count(), 0U);
}

TEST_F(ConnectTest, AGenerationThatIsNotNewerIsRejected) {
  const SourceEnd source(1, 1);
  ReadingEnd reading(source, source.regions);
  const auto lane = reading.Open(source, 2);
  EXPECT_FALSE(rdma::Dial(reading.reader, source.Plan(), source.Lane(2)).has_value());
  EXPECT_FALSE(rdma::Dial(reading.reader, source.Plan(), source.Lane(1)).has_value());
  EXPECT_EQ(lane->Health(), LaneHealth::kOpen);
}

TEST_F(ConnectTest, ANewerGenerationEndsTheOneBefore) {
  const SourceEnd source(1, 1);
  ReadingEnd reading(source, source.regions);
  const auto old = reading.Open(source, 1);
  const auto newer = rdma::Dial(reading.reader, source.Plan(), source.Lane(2));
  ASSERT_TRUE(newer.has_value()) << newer.error().message;
  EXPECT_TRUE(reading.AwaitBroken(*old));
  EXPECT_EQ(source.answerer->lane_count(), 1U);
}

TEST_F(ConnectTest, NobodyThereIsSaidWithinTheTime) {
  SourceEnd source(1, 1);
  ReadingEnd reading(source, source.regions);
  rdma::DialPlan plan = source.Plan();
  source.answerer.reset();
  plan.timeout = std::chrono::seconds(3);
  const Nanos start = rdma::MonotonicNow();
  EXPECT_FALSE(rdma::Dial(reading.reader, plan, source.Lane()).has_value());
  EXPECT_LT(rdma::MonotonicNow() - start, std::chrono::seconds(6));
}

}  // namespace
}  // namespace faultline::testing
