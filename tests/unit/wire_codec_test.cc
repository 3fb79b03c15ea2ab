#include "engine/core/wire_codec.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>

namespace faultline::wire {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

Geometry SomeGeometry() {
  return Geometry::Create({{"ram0", ByteCount(100 * 4096), PageSize(4096)},
                           {"huge0", ByteCount(4 << 21), PageSize(1 << 21)}})
      .value();
}

Bytes HelloBytes() { return EncodeHello({SomeGeometry(), 3, 1'250'000'000, Compression::kAuto}); }

template <class T>
void Put(Bytes& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

Bytes RunBytes(std::initializer_list<RunEntry> entries) {
  Bytes bytes(entries.size() * sizeof(RunEntry));
  std::memcpy(bytes.data(), entries.begin(), bytes.size());
  return bytes;
}

TEST(WireCodec, HelloSurvivesTheWire) {
  const Result<Hello> hello = DecodeHello(HelloBytes());
  ASSERT_TRUE(hello.has_value()) << hello.error().message;
  EXPECT_EQ(hello->geometry.DifferenceTo(SomeGeometry()), "");
  EXPECT_EQ(hello->bulk_streams, 3u);
  EXPECT_EQ(hello->bulk_bytes_per_second, 1'250'000'000u);
  EXPECT_EQ(hello->compression, Compression::kAuto);
}

TEST(WireCodec, AHelloCutAnywhereIsRefused) {
  const Bytes whole = HelloBytes();
  for (size_t length = 0; length < whole.size(); ++length) {
    const Result<Hello> hello = DecodeHello(ByteView(whole).first(length));
    ASSERT_FALSE(hello.has_value()) << length;
    ASSERT_EQ(hello.error().kind, ErrorKind::kPeer);
  }
}

TEST(WireCodec, AHelloWithImpossibleNumbersIsRefused) {
  const auto refuses = [](size_t offset, auto value) {
    Bytes bytes = HelloBytes();
    Put(bytes, offset, value);
    return !DecodeHello(bytes).has_value();
  };
  constexpr size_t kRegion = sizeof(HelloBody);
  EXPECT_TRUE(refuses(offsetof(HelloBody, region_count), uint32_t{0}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, region_count), uint32_t{3}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, region_count), ~uint32_t{0}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, bulk_streams), uint32_t{0}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, bulk_streams), uint32_t{kBulkStreamsMax + 1}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, compression), uint32_t{0}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, compression), uint32_t{5}));
  EXPECT_TRUE(refuses(offsetof(HelloBody, reserved), uint32_t{1}));
  EXPECT_TRUE(refuses(kRegion + offsetof(RegionEntry, length), uint64_t{4095}));
  EXPECT_TRUE(refuses(kRegion + offsetof(RegionEntry, length), kMax & ~uint64_t{4095}));
  EXPECT_TRUE(refuses(kRegion + offsetof(RegionEntry, page_size), uint64_t{0}));
  EXPECT_TRUE(refuses(kRegion + offsetof(RegionEntry, page_size), uint64_t{4097}));
  EXPECT_TRUE(refuses(kRegion + offsetof(RegionEntry, id), '\0')) << "an empty id";
}

TEST(WireCodec, AnIdWithoutEndIsRefused) {
  Bytes bytes = HelloBytes();
  std::memset(bytes.data() + sizeof(HelloBody) + offsetof(RegionEntry, id), 'x', 64);
  EXPECT_FALSE(DecodeHello(bytes).has_value());
}

TEST(WireCodec, RunsSurviveTheWire) {
  const std::vector<PageRun> runs = {{PageIndex(0), PageCount(100)},
                                     {PageIndex(101), PageCount(2)}};
  EXPECT_EQ(DecodeRuns(EncodeRuns(runs), SomeGeometry()).value(), runs);
  EXPECT_TRUE(DecodeRuns({}, SomeGeometry()).value().empty());
}

TEST(WireCodec, RunsThatAreNotRisingRunsOfOneRegionAreRefused) {
  const Geometry geometry = SomeGeometry();
  const auto refuses = [&](std::initializer_list<RunEntry> entries) {
    return !DecodeRuns(RunBytes(entries), geometry).has_value();
  };
  EXPECT_TRUE(refuses({{0, 0}}));
  EXPECT_TRUE(refuses({{99, 2}})) << "across two regions";
  EXPECT_TRUE(refuses({{104, 1}}));
  EXPECT_TRUE(refuses({{103, 2}}));
  EXPECT_TRUE(refuses({{0, kMax}}));
  EXPECT_TRUE(refuses({{kMax, 1}}));
  EXPECT_TRUE(refuses({{1, kMax}}));
  EXPECT_TRUE(refuses({{5, 5}, {9, 1}})) << "overlapping";
  EXPECT_TRUE(refuses({{5, 5}, {0, 1}})) << "falling";
  EXPECT_FALSE(refuses({{5, 5}, {10, 1}}));
}

TEST(WireCodec, RunsOfABrokenLengthAreRefused) {
  Bytes bytes = RunBytes({{0, 1}});
  bytes.pop_back();
  EXPECT_FALSE(DecodeRuns(bytes, SomeGeometry()).has_value());
}

TEST(WireCodec, EarlyPagesSurviveTheWire) {
  const Bytes content(2 * 4096, std::byte{7});
  Bytes body = RunBytes({{98, 2}});
  body.insert(body.end(), content.begin(), content.end());
  const Result<EarlyPages> pages = DecodeEarlyPages(body, SomeGeometry());
  ASSERT_TRUE(pages.has_value());
  EXPECT_EQ(pages->run, (PageRun{PageIndex(98), PageCount(2)}));
  EXPECT_TRUE(std::equal(content.begin(), content.end(), pages->bytes.begin(), pages->bytes.end()));
}

TEST(WireCodec, EarlyPagesWhoseBytesAreNotThoseOfTheirRunAreRefused) {
  const auto refuses = [](uint64_t first, uint64_t count, size_t bytes) {
    Bytes body = RunBytes({{first, count}});
    body.resize(body.size() + bytes);
    return !DecodeEarlyPages(body, SomeGeometry()).has_value();
  };
  EXPECT_FALSE(refuses(0, 32, kEarlyBytesMax));
  EXPECT_TRUE(refuses(0, 33, 33 * 4096)) << "more than a frame may have";
  EXPECT_TRUE(refuses(0, 1, 4095));
  EXPECT_TRUE(refuses(0, 1, 4097));
  EXPECT_TRUE(refuses(0, 0, 0));
  EXPECT_TRUE(refuses(99, 2, 2 * 4096)) << "across two regions";
  EXPECT_TRUE(refuses(100, 1, 4096)) << "a page of another size";
  EXPECT_TRUE(refuses(kMax, 1, 4096));
  EXPECT_TRUE(refuses(1, kMax, 4096));
  EXPECT_FALSE(DecodeEarlyPages(Bytes(sizeof(RunEntry) - 1), SomeGeometry()).has_value());
}

TEST(WireCodec, ProgressSurvivesTheWireAndIsChecked) {
  const ProgressBody progress{1, 2, 3, 4, 5, 6};
  EXPECT_EQ(DecodeProgress(EncodeProgress(progress))->fault_p99_ns, 6u);
  EXPECT_FALSE(DecodeProgress(EncodeProgress({3, 2, 0, 0, 0, 0})).has_value());
  EXPECT_FALSE(DecodeProgress(Bytes(47)).has_value());
}

TEST(WireCodec, WelcomeSaysHowManyUrgentLanes) {
  EXPECT_EQ(DecodeWelcome(EncodeWelcome({4, 0}))->urgent_lanes, 4u);
  EXPECT_FALSE(DecodeWelcome(EncodeWelcome({0, 0})).has_value());
  EXPECT_FALSE(DecodeWelcome(EncodeWelcome({kUrgentLanesMax + 1, 0})).has_value());
  EXPECT_FALSE(DecodeWelcome(EncodeWelcome({1, 1})).has_value());
  EXPECT_FALSE(DecodeWelcome({}).has_value());
}

TEST(WireCodec, TextIsCutAndCannotDisturbATerminal) {
  EXPECT_EQ(DecodeText(EncodeText("tried X on Y\nf\xC3\xBCr")).value(), "tried X on Y\nf\xC3\xBCr");
  EXPECT_EQ(DecodeText(EncodeText("\x1B[2J\r\x7F")).value(), "?[2J??");
  EXPECT_EQ(EncodeText(std::string(kTextBytesMax + 1, 'x')).size(), kTextBytesMax);
  EXPECT_FALSE(DecodeText(Bytes(kTextBytesMax + 1)).has_value());
}

TEST(WireCodec, FrameHeadersAreChecked) {
  const auto decode = [](FrameHeader header) {
    Bytes bytes(sizeof(header));
    std::memcpy(bytes.data(), &header, sizeof(header));
    return DecodeFrameHeader(bytes).has_value();
  };
  EXPECT_TRUE(decode({0, kFrameTypeLast, 0}));
  EXPECT_TRUE(decode({kFrameBytesMax, 1, 0}));
  EXPECT_FALSE(decode({kFrameBytesMax + 1, 1, 0}));
  EXPECT_FALSE(decode({0, 0, 0}));
  EXPECT_FALSE(decode({0, kFrameTypeLast + 1, 0}));
  EXPECT_FALSE(decode({0, 1, 1}));
  EXPECT_FALSE(DecodeFrameHeader(Bytes(7)).has_value());
}

TEST(WireCodec, EveryFrameTypeHasAName) {
  for (uint16_t type = 1; type <= kFrameTypeLast; ++type) {
    EXPECT_NE(Name(static_cast<FrameType>(type)), "Unknown") << type;
  }
  EXPECT_EQ(Name(static_cast<FrameType>(kFrameTypeLast + 1)), "Unknown");
}

TEST(WireCodec, NoiseIsRefusedOrRefusedButNeverMore) {
  constexpr uint32_t kSeed = 20261;
  std::mt19937 random(kSeed);
  const Geometry geometry = SomeGeometry();
  for (int round = 0; round < 20'000; ++round) {
    Bytes noise = round % 2 == 0 ? HelloBytes() : Bytes(random() % 200);
    for (int i = 0; i < 4 && !noise.empty(); ++i) {
      noise[random() % noise.size()] = static_cast<std::byte>(random());
    }
    const Result<Hello> hello = DecodeHello(noise);
    const auto runs = DecodeRuns(noise, geometry);
    const size_t regions = hello ? hello->geometry.region_count() : 0;
    ASSERT_LE(regions, kRegionsMax) << "seed " << kSeed << " round " << round;
    ASSERT_LE(runs ? runs->size() : 0, kRunsPerFrameMax);
  }
}

}  // namespace
}  // namespace faultline::wire
