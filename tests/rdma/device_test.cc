// Which device, and what is said where it is not the right one.
#include "rdma/device.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/rdma/support/device_test_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;
using DeviceTest = OnDevice;

TEST_F(DeviceTest, AnAddressOfTheControlConnectionThatIsADevicesIsTaken) {
  const std::vector<rdma::DeviceAddress> all = rdma::ListAddresses();
  ASSERT_FALSE(all.empty());
  const auto chosen = rdma::ChooseAddress("", all.back().host);
  ASSERT_TRUE(chosen.has_value());
  EXPECT_EQ(chosen->host, all.back().host);
}

TEST_F(DeviceTest, ANamedDeviceIsTakenWhateverTheControlConnectionUses) {
  const rdma::DeviceAddress first = rdma::ListAddresses().front();
  const auto chosen = rdma::ChooseAddress(first.device, "192.0.2.1");
  ASSERT_TRUE(chosen.has_value());
  EXPECT_EQ(chosen->device, first.device);
  EXPECT_EQ(chosen->host, first.host);
}

TEST_F(DeviceTest, ADeviceThatIsNotThereIsRefusedWithTheNamesOfThoseThatAre) {
  const std::string there = rdma::ListAddresses().front().device;
  const auto chosen = rdma::ChooseAddress("mlx5_77", "");
  ASSERT_FALSE(chosen.has_value());
  EXPECT_EQ(chosen.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(chosen.error().message, HasSubstr("mlx5_77"));
  EXPECT_THAT(chosen.error().message, HasSubstr(there));
}

TEST_F(DeviceTest, AnAddressThatIsNoDevicesCannotBeListenedOn) {
  const auto answerer =
      rdma::Answerer::Create({.address = {"", "192.0.2.1"}, .port = 0, .migration = {}});
  ASSERT_FALSE(answerer.has_value());
  EXPECT_THAT(answerer.error().message, HasSubstr("192.0.2.1"));
}

TEST_F(DeviceTest, ItsLimitsLeaveRoomForALane) {
  const SourceEnd source(1, 1);
  const rdma::DeviceLimits& limits = source.answerer->limits();
  EXPECT_GE(limits.queue_depth_max, rdma::kSendDepth);
  EXPECT_GE(limits.message_bytes_max, kRunBytesMax);
  EXPECT_GT(limits.reads_in, 0);
}

}  // namespace
}  // namespace faultline::testing
