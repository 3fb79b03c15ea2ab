#include "engine/app/quantities.h"

#include <gtest/gtest.h>

namespace faultline {
namespace {

TEST(RateTest, BitsAreDecimalAndDividedByEight) {
  EXPECT_EQ(ParseRate("10Gbit").value(), 1'250'000'000u);
  EXPECT_EQ(ParseRate("8kbit").value(), 1'000u);
}

TEST(RateTest, BytesAreDecimalOrBinaryAsWritten) {
  EXPECT_EQ(ParseRate("500MiB").value(), 500u * 1024 * 1024);
  EXPECT_EQ(ParseRate("1.5GB").value(), 1'500'000'000u);
}

TEST(RateTest, ANumberWithoutAUnitIsRefusedBecauseItsMeaningIsNotKnown) {
  EXPECT_EQ(ParseRate("1000").error().kind, ErrorKind::kUsage);
}

TEST(RateTest, NonsenseIsRefusedAndNamed) {
  for (const char* text : {"", "fast", "-1Gbit", "nanGbit", "infGbit", "10gbit", "0Gbit", "1e30GB",
                           "10Gbit/s", " 1MB"}) {
    const auto parsed = ParseRate(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().message.find("10Gbit"), std::string::npos) << text;
  }
}

TEST(SizeTest, PlainNumbersAreBytes) {
  EXPECT_EQ(ParseSize("4096").value(), ByteCount(4096));
  EXPECT_EQ(ParseSize("512KiB").value(), ByteCount(512 * 1024));
}

TEST(WindowTest, AutoIsNoSize) {
  EXPECT_EQ(ParseWindow("auto").value(), std::nullopt);
  EXPECT_EQ(ParseWindow("1MiB").value(), ByteCount(1 << 20));
  EXPECT_FALSE(ParseWindow("large").has_value());
  EXPECT_EQ(ParseCompression("zstd").value(), wire::Compression::kZstd);
  EXPECT_EQ(ParseCompression("off").value(), wire::Compression::kOff);
  EXPECT_FALSE(ParseCompression("gzip").has_value());
}

TEST(SizeTest, RatesInBitsAreNoSizes) { EXPECT_FALSE(ParseSize("10Gbit").has_value()); }

}  // namespace
}  // namespace faultline
