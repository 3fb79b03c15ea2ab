// Packed runs, from the real lane server to the real lane, on every backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "engine/core/zero_check.h"
#include "engine/tcp/lane_server.h"
#include "engine/tcp/packing.h"
#include "tests/tcp/loopback.h"

namespace faultline::test {
namespace {

using wire::Compression;

/// Pages of text, of zeroes and of noise.
class MixedGuest final : public PageReader {
 public:
  explicit MixedGuest(uint64_t seed) : ram_(MixedGeometry()), presence_(Pages()) {
    Random random(seed);
    for (PageIndex page(0); page < PageIndex(Pages().value()); page = page + PageCount(1)) {
      const uint64_t kind = random() % 3;
      const std::span<std::byte> bytes = ram_.Page(page);
      for (size_t at = 0; kind > 0 && at < bytes.size(); at += sizeof(uint64_t)) {
        const uint64_t word = kind == 1 ? 1 + at % 64 + page.value() : random();
        std::memcpy(bytes.data() + at, &word, sizeof word);
      }
    }
    presence_.MarkPresent({PageIndex(0), Pages()});
  }
  static PageCount Pages() { return MixedGeometry().page_count(); }
  std::unique_ptr<PageServer> MakeServer() {
    return std::make_unique<PageServer>(ram_.window(), presence_, *this);
  }
  [[nodiscard]] const GuestRam& ram() const { return ram_; }

 private:
  bool Read(PageRun run, std::span<std::byte> out) override {
    std::ranges::copy(ram_.window().BytesOf(run), out.begin());
    return true;
  }

  GuestRam ram_;
  PresenceMap presence_;
};

class PackedLane : public testing::TestWithParam<LaneParameter> {
 protected:
  /// Every page once, over a lane that asks as `how` says.
  void FetchAll(Compression how, bool packs) {
    const uint64_t seed = Seed();
    Random random(seed);
    MixedGuest guest(seed);
    policy_.emplace(how);
    unpacker_.emplace(*policy_);
    SocketPair sockets = Connect(std::get<1>(GetParam()));
    LaneServer::Options options;
    options.packs = packs;
    LaneServer server(std::move(sockets.source), guest.MakeServer(), std::move(options));
    DestinationLane lane(std::get<0>(GetParam()), MixedGeometry(), std::move(sockets.destination),
                         kPeerSilenceMax, &*unpacker_);
    fetched_ = lane.FetchAll(RandomCover(MixedGeometry(), random));
    for (const Arrival& arrival : lane.arrivals()) {
      for (PageIndex page = arrival.run.first; page < arrival.run.end();
           page = page + PageCount(1)) {
        const std::span<std::byte> sent = guest.ram().Page(page);
        right_ += arrival.zero == IsAllZero(sent) &&
                          (arrival.zero || std::ranges::equal(lane.ram().Page(page), sent))
                      ? 1U
                      : 0U;
      }
    }
    lane.channel().Close();
    wire_bytes_ = lane.channel().WireBytes().value();
    server.Stop();
    sent_bytes_ = server.stats().sent_bytes + server.stats().received_bytes;
  }

  std::optional<CompressionPolicy> policy_;
  std::optional<Unpacker> unpacker_;
  bool fetched_ = false;
  uint64_t right_ = 0;
  uint64_t wire_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Lanes, PackedLane, EveryLane(), NameOf);

TEST_P(PackedLane, EveryPageIsRightWithLz4) {
  FetchAll(Compression::kLz4, true);
  EXPECT_TRUE(fetched_);
  EXPECT_EQ(right_, MixedGuest::Pages().value());
  EXPECT_LT(policy_->packed_sent(), policy_->packed_pages());
  EXPECT_EQ(wire_bytes_, sent_bytes_);
}

TEST_P(PackedLane, EveryPageIsRightWithZstd) {
  FetchAll(Compression::kZstd, true);
  EXPECT_TRUE(fetched_);
  EXPECT_EQ(right_, MixedGuest::Pages().value());
  EXPECT_LT(policy_->packed_sent(), policy_->packed_pages());
  EXPECT_EQ(wire_bytes_, sent_bytes_);
}

TEST_P(PackedLane, AnUnpackerThatDoesNotAskGetsPagesAsTheyAre) {
  FetchAll(Compression::kOff, true);
  EXPECT_TRUE(fetched_);
  EXPECT_EQ(right_, MixedGuest::Pages().value());
  EXPECT_EQ(policy_->packed_pages(), ByteCount(0));
}

TEST_P(PackedLane, AServerThatDoesNotPackEndsTheLane) {
  SocketPair sockets = Connect(std::get<1>(GetParam()));
  MixedGuest guest(1);
  const LaneServer server(std::move(sockets.source), guest.MakeServer());
  CompressionPolicy policy(Compression::kLz4);
  Unpacker unpacker(policy);
  DestinationLane lane(std::get<0>(GetParam()), MixedGeometry(), std::move(sockets.destination),
                       kPeerSilenceMax, &unpacker);
  lane.Post({PageIndex(0), PageCount(8)});
  EXPECT_TRUE(lane.PumpUntilBroken());
}

}  // namespace
}  // namespace faultline::test
