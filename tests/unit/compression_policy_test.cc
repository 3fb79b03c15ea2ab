#include "engine/core/compression_policy.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace faultline::test {
namespace {

using wire::Codec;
using wire::Compression;

constexpr Nanos kInterval{5'000'000};

/// A link, and a source that packs: `rate` in bytes of pages a second, to one of `ratio`.
struct World {
  struct Packs {
    double rate;
    double ratio;
  };
  double link;
  Packs lz4{600e6, 2};
  Packs zstd{250e6, 3};

  /// Runs until an interval is full, asked for as the policy says.
  void Interval(CompressionPolicy& policy) const {
    constexpr double kRun = 64 * 1024;
    for (double left = 5e-3; left > 0;) {
      const Codec codec = policy.Next();
      const Packs packs = codec == Codec::kLz4    ? lz4
                          : codec == Codec::kZstd ? zstd
                                                  : Packs{1e12, 1};
      const double sent = kRun / packs.ratio;
      left -= std::max(sent / link, kRun / packs.rate);
      policy.NoteRun(codec, ByteCount(64 * 1024), ByteCount(static_cast<uint64_t>(sent)),
                     Nanos(static_cast<int64_t>(kRun / packs.rate * 1e9)));
    }
    policy.OnInterval(kInterval, false);
  }
  /// Which codec is in use after so many intervals.
  Codec After(CompressionPolicy& policy, int intervals) const {
    for (int i = 0; i < intervals; ++i) Interval(policy);
    return policy.codec();
  }
};

TEST(CompressionPolicyTest, ASlowLinkGetsTheCodecThatBringsMost) {
  CompressionPolicy gigabit(Compression::kAuto);
  EXPECT_EQ((World{.link = 100e6}.After(gigabit, 100)), Codec::kZstd);
  CompressionPolicy faster(Compression::kAuto);
  EXPECT_EQ((World{.link = 200e6}.After(faster, 100)), Codec::kLz4);
}

TEST(CompressionPolicyTest, ALinkFasterThanTheCodecsIsLeftAsItIs) {
  CompressionPolicy policy(Compression::kAuto);
  EXPECT_EQ((World{.link = 1e9}.After(policy, 100)), Codec::kNone);
}

TEST(CompressionPolicyTest, PagesThatDoNotShrinkAreLeftAsTheyAre) {
  CompressionPolicy policy(Compression::kAuto);
  const World random{.link = 100e6, .lz4 = {900e6, 1}, .zstd = {500e6, 1}};
  EXPECT_EQ(random.After(policy, 100), Codec::kNone);
  EXPECT_EQ(policy.packed_pages(), ByteCount(0));
}

TEST(CompressionPolicyTest, ALinkThatBecomesFasterIsNoticed) {
  CompressionPolicy policy(Compression::kAuto);
  EXPECT_EQ((World{.link = 100e6}.After(policy, 100)), Codec::kZstd);
  EXPECT_EQ((World{.link = 1e9}.After(policy, 300)), Codec::kNone);
}

TEST(CompressionPolicyTest, AFewRunsTellWhatPackingWouldBring) {
  CompressionPolicy policy(Compression::kAuto);
  World{.link = 1e9}.After(policy, 1000);
  EXPECT_GT(policy.packed_pages(), ByteCount(0));
  EXPECT_LT(policy.packed_pages(), ByteCount(100 * 64 * 1024));
}

TEST(CompressionPolicyTest, AnIntervalThatWasHeldBackDecidesNothing) {
  CompressionPolicy policy(Compression::kAuto);
  for (int i = 0; i < 100; ++i) {
    policy.NoteRun(Codec::kLz4, ByteCount(65536), ByteCount(1000), Nanos(1000));
    policy.OnInterval(kInterval, true);
  }
  EXPECT_EQ(policy.codec(), Codec::kNone);
}

TEST(CompressionPolicyTest, WhatIsSaidOnTheCommandLineIsDone) {
  CompressionPolicy off(Compression::kOff);
  EXPECT_FALSE(off.may_ask());
  EXPECT_EQ((World{.link = 1e6}.After(off, 100)), Codec::kNone);
  CompressionPolicy lz4(Compression::kLz4);
  EXPECT_EQ((World{.link = 10e9}.After(lz4, 100)), Codec::kLz4);
  CompressionPolicy zstd(Compression::kZstd);
  EXPECT_EQ(zstd.Next(), Codec::kZstd);
}

}  // namespace
}  // namespace faultline::test
