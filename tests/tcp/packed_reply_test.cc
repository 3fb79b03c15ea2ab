// Packed replies: honest ones, cut anywhere, and lies.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "engine/core/ledger.h"
#include "engine/core/overtakable_landing.h"
#include "engine/tcp/packing.h"
#include "tests/tcp/reply_stream_rig.h"

namespace faultline::test {
namespace {

using wire::Codec;
using wire::Compression;

constexpr std::byte kBefore{0xA5};
const PageRun kRun{PageIndex(10), PageCount(8)};

/// A run whose page i, if its bit is set, is full of i + 1, as the source would pack it.
Bytes PackedRun(uint64_t data_pages, Codec codec) {
  std::vector<std::byte> pages;
  for (uint64_t page = 0; page < kRun.count.value(); ++page) {
    const size_t length = ((data_pages >> page) & 1) * 4096;
    pages.insert(pages.end(), length, static_cast<std::byte>(page + 1));
  }
  ReplyPlan plan;
  plan.segments[0] = pages;
  plan.segment_count = 1;
  plan.data_bytes = ByteCount(pages.size());
  Packer packer;
  const std::span<const std::byte> packed = packer.Pack(plan, codec);
  return {packed.begin(), packed.end()};
}

Bytes Reply(uint64_t data_pages, const Bytes& packed, uint32_t said) {
  wire::PageReply header = HonestReply(kRun, 1);
  header.data_pages = data_pages;
  return Joined({BytesOf(header), BytesOf(wire::Packing{said, 1000}), packed});
}
Bytes Reply(uint64_t data_pages, const Bytes& packed) {
  return Reply(data_pages, packed, static_cast<uint32_t>(packed.size()));
}

class PackedReply : public testing::TestWithParam<Compression> {
 protected:
  PackedReply() {
    ram_.FillWith(kBefore);
    replies_.Post(kRun);
  }
  [[nodiscard]] Codec codec() { return policy_.codec(); }

  /// In pieces of at most `limit` bytes.
  void Feed(std::span<const std::byte> stream, size_t limit) {
    test::Feed(replies_, stream, [limit] { return limit; });
  }
  /// Pages that are reported, and hold what they should.
  uint64_t RightPages() {
    uint64_t right = 0;
    Arrival arrival;
    while (replies_.Reap({&arrival, 1}) == 1) {
      for (PageIndex page = arrival.run.first; page < arrival.run.end();
           page = page + PageCount(1)) {
        const auto value = static_cast<std::byte>((page - kRun.first).value() + 1);
        right += IsFilledWith(ram_.Page(page), arrival.zero ? kBefore : value) ? 1U : 0U;
      }
    }
    return right;
  }
  [[nodiscard]] bool NeighboursAreUntouched() {
    return IsFilledWith(ram_.Page(PageIndex(9)), kBefore) &&
           IsFilledWith(ram_.Page(PageIndex(18)), kBefore);
  }

  GuestRam ram_{SmallGeometry()};
  CompressionPolicy policy_{GetParam()};
  Unpacker unpacker_{policy_};
  ReplyStream replies_{ram_.landing(), &unpacker_};
};
std::string NameOf(const testing::TestParamInfo<Compression>& info) {
  return info.param == Compression::kLz4 ? "Lz4" : "Zstd";
}
INSTANTIATE_TEST_SUITE_P(Codecs, PackedReply,
                         testing::Values(Compression::kLz4, Compression::kZstd), NameOf);

TEST_P(PackedReply, PagesSideBySideAreUnpackedInPlace) {
  Feed(Reply(0b11111111, PackedRun(0b11111111, codec())), SIZE_MAX);
  EXPECT_EQ(RightPages(), 8U);
  EXPECT_FALSE(replies_.broken());
  EXPECT_EQ(policy_.packed_pages(), ByteCount(8 * 4096));
}

TEST_P(PackedReply, ZeroPagesBetweenThemAreSkipped) {
  Feed(Reply(0b10100110, PackedRun(0b10100110, codec())), SIZE_MAX);
  EXPECT_EQ(RightPages(), 8U);
  EXPECT_TRUE(NeighboursAreUntouched());
}

TEST_P(PackedReply, AStreamCutAnywhereGivesTheSame) {
  Feed(Reply(0b01100110, PackedRun(0b01100110, codec())), 1);
  EXPECT_EQ(RightPages(), 8U);
  EXPECT_FALSE(replies_.broken());
}

TEST_P(PackedReply, PagesMayComeAsTheyAre) {
  Feed(Reply(0b00000001, Bytes(4096, std::byte{1}), 0), 1000);
  EXPECT_EQ(RightPages(), 8U);
  EXPECT_EQ(policy_.packed_pages(), ByteCount(0));
}

TEST_P(PackedReply, ZeroPagesAloneNeedNothing) {
  Feed(Reply(0, {}), 7);
  EXPECT_EQ(RightPages(), 8U);
}

TEST_P(PackedReply, WhatAFaultHasOvertakenIsUnpackedNowhere) {
  for (const uint64_t overtaken : {0b00000001U, 0b00000100U, 0b10000000U, 0b10011001U, 0xFFU}) {
    for (const uint64_t data : {0b11111111U, 0b10110101U, 0b01111110U}) {
      ram_.FillWith(kBefore);
      std::vector<Ledger::Cell> cells(SmallGeometry().page_count().value());
      Ledger ledger(cells);
      OvertakableLanding area(std::make_unique<AliasLanding>(ram_.window()), ledger);
      ReplyStream replies(area, &unpacker_);
      ledger.ClaimPrefix(kRun, Ledger::Claim::kOvertakable);
      replies.Post(kRun);
      for (uint64_t i = 0; i < kRun.count.value(); ++i) {
        if ((overtaken >> i) & 1) ledger.OnFault(kRun.first + PageCount(i), true);
      }
      test::Feed(replies, Reply(data, PackedRun(data, codec())), [] { return 5000; });
      ASSERT_FALSE(replies.broken());
      uint64_t reported = 0;
      for (const Arrival& arrival : ReapAll(replies)) {
        for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page, ++reported) {
          const uint64_t i = (page - kRun.first).value();
          EXPECT_EQ(arrival.overtaken, ((overtaken >> i) & 1) != 0);
          const bool lands = ((data & ~overtaken) >> i) & 1;
          EXPECT_TRUE(
              IsFilledWith(ram_.Page(page), lands ? static_cast<std::byte>(i + 1) : kBefore));
        }
      }
      EXPECT_EQ(reported, kRun.count.value());
    }
  }
}

TEST_P(PackedReply, AsManyPackedBytesAsPagesIsALie) {
  Feed(Reply(0b1, Bytes(4096), 4096), SIZE_MAX);
  EXPECT_TRUE(replies_.broken());
  EXPECT_FALSE(replies_.HasArrivals());
}

TEST_P(PackedReply, APackedReplyThatDoesNotComeAloneIsALie) {
  wire::PageReply header = HonestReply(kRun, 1);
  header.headers_behind = 1;
  replies_.Post(kRun);
  Feed(Joined({BytesOf(header), BytesOf(wire::Packing{0, 0})}), SIZE_MAX);
  EXPECT_TRUE(replies_.broken());
}

TEST_P(PackedReply, PackedBytesOfNoPageAreALie) {
  Feed(Reply(0, Bytes(1), 1), SIZE_MAX);
  EXPECT_TRUE(replies_.broken());
}

TEST_P(PackedReply, FewerPagesThanTheBitsSayIsALie) {
  Feed(Reply(0b1111, PackedRun(0b0111, codec())), SIZE_MAX);
  EXPECT_TRUE(replies_.broken());
  EXPECT_EQ(RightPages(), 0U);
}

TEST_P(PackedReply, MorePagesThanTheBitsSayIsALieAndTheyLandNowhere) {
  Feed(Reply(0b10000000, PackedRun(0b11111111, codec())), SIZE_MAX);
  EXPECT_TRUE(replies_.broken());
  EXPECT_EQ(RightPages(), 0U);
  EXPECT_TRUE(NeighboursAreUntouched());
}

TEST_P(PackedReply, DamagedBlocksBreakTheLaneOrLandWhereTheyBelong) {
  Random random(Seed());
  const Bytes packed = PackedRun(0b11011110, codec());
  for (int round = 0; round < 3000; ++round) {
    replies_ = ReplyStream(ram_.landing(), &unpacker_);
    replies_.Post(kRun);
    Bytes damaged = packed;
    damaged.resize(1 + random() % damaged.size());
    for (int flips = 0; flips < 3; ++flips) {
      damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    }
    Feed(Reply(0b11011110, damaged), 1 + random() % 5000);
    EXPECT_TRUE(replies_.broken() || !replies_.AwaitsReply());
  }
  EXPECT_TRUE(NeighboursAreUntouched());
}

}  // namespace
}  // namespace faultline::test
