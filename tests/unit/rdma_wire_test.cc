// What is said about READs: values to bytes and back, and what a hostile peer may not say.
#include "engine/core/rdma_wire.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/fakes.h"

namespace faultline::wire {
namespace {

using test::Pages;

class RdmaWireTest : public ::testing::Test {
 protected:
  Geometry geometry_ = *Geometry::Create(
      {{"a", ByteCount(100 * 4096), PageSize(4096)}, {"b", ByteCount(100 * 4096), PageSize(4096)}});
  bool Accepts(std::vector<RdmaRegion> regions) const {
    return DecodeRdmaRegions(EncodeRdmaRegions(regions), geometry_).has_value();
  }
};

TEST_F(RdmaWireTest, RegionsComeBackAsTheyWere) {
  const std::vector<RdmaRegion> regions{{Pages(0, 10), 0x7000, 1}, {Pages(110, 90), 0x9000, 0xFF}};
  const auto decoded = DecodeRdmaRegions(EncodeRdmaRegions(regions), geometry_);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(*decoded, regions);
}

TEST_F(RdmaWireTest, RegionsRiseAndStayInsideOfGuestRam) {
  EXPECT_FALSE(Accepts({{Pages(10, 10), 0, 1}, {Pages(19, 1), 0, 1}}));
  EXPECT_FALSE(Accepts({{Pages(90, 11), 0, 1}}));
  EXPECT_FALSE(Accepts({{Pages(190, 11), 0, 1}}));
  EXPECT_FALSE(Accepts({{Pages(5, 0), 0, 1}}));
}

TEST_F(RdmaWireTest, AddressesDoNotWrapRound) {
  EXPECT_TRUE(Accepts({{Pages(0, 2), UINT64_MAX - 8192, 1}}));
  EXPECT_FALSE(Accepts({{Pages(0, 2), UINT64_MAX - 8191, 1}}));
}

TEST_F(RdmaWireTest, AnOfferHasAnAddressAndAPort) {
  const auto offer = DecodeRdmaOffer(EncodeRdmaOffer({"192.0.2.1", 4791}));
  ASSERT_TRUE(offer.has_value());
  EXPECT_EQ(offer->host, "192.0.2.1");
  EXPECT_EQ(offer->port, 4791);
  Bytes without_port = EncodeRdmaOffer({"192.0.2.1", 1});
  without_port[2] = std::byte{0};
  EXPECT_FALSE(DecodeRdmaOffer(without_port).has_value());
  Bytes longer = EncodeRdmaOffer({"192.0.2.1", 1});
  longer.push_back(std::byte{'1'});
  EXPECT_FALSE(DecodeRdmaOffer(longer).has_value());
}

TEST_F(RdmaWireTest, AnotherVersionIsRefused) {
  Bytes offer = EncodeRdmaOffer({"192.0.2.1", 1});
  offer[0] = std::byte{99};
  EXPECT_FALSE(DecodeRdmaOffer(offer).has_value());
}

TEST_F(RdmaWireTest, AnAnswerIsYesOrNoWithAReason) {
  EXPECT_EQ(*DecodeRdmaAnswer(EncodeRdmaAnswer("")), "");
  EXPECT_EQ(*DecodeRdmaAnswer(EncodeRdmaAnswer("no device")), "no device");
  Bytes no_reason = EncodeRdmaAnswer("");
  no_reason[0] = std::byte{2};
  EXPECT_FALSE(DecodeRdmaAnswer(no_reason).has_value());
}

TEST_F(RdmaWireTest, ConnectWordsAreReadThroughPadding) {
  const LaneIdentity lane{LaneKind::kBulk, 3, 17, {9, 8, 7}};
  const ConnectWords words = MakeConnectWords(lane);
  Bytes padded(196);
  std::memcpy(padded.data(), &words, sizeof words);
  const auto read = ReadConnectWords(padded);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->lane, LaneKind::kBulk);
  EXPECT_EQ(read->stream, 3U);
  EXPECT_EQ(read->generation, 17U);
  EXPECT_EQ(read->migration, lane.migration);
}

TEST_F(RdmaWireTest, ConnectWordsOfNoLaneAreRefused) {
  EXPECT_FALSE(ReadConnectWords({}).has_value());
  EXPECT_FALSE(ReadConnectWords(Bytes(196)).has_value());
  const ConnectWords control = MakeConnectWords({LaneKind::kControl, 0, 1, {}});
  EXPECT_FALSE(ReadConnectWords(std::as_bytes(std::span(&control, 1))).has_value());
  const ConnectWords beyond = MakeConnectWords({LaneKind::kBulk, kBulkStreamsMax, 1, {}});
  EXPECT_FALSE(ReadConnectWords(std::as_bytes(std::span(&beyond, 1))).has_value());
}

}  // namespace
}  // namespace faultline::wire
