#include "engine/app/quantities.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace faultline {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

constexpr double kKilo = 1e3, kMega = 1e6, kGiga = 1e9;
constexpr double kKibi = 1024.0, kMebi = kKibi * 1024, kGibi = kMebi * 1024;

constexpr std::array<Unit, 7> kByteUnits{{{"B", 1},
                                          {"kB", kKilo},
                                          {"MB", kMega},
                                          {"GB", kGiga},
                                          {"KiB", kKibi},
                                          {"MiB", kMebi},
                                          {"GiB", kGibi}}};
constexpr std::array<Unit, 4> kBitUnits{
    {{"bit", 0.125}, {"kbit", kKilo / 8}, {"Mbit", kMega / 8}, {"Gbit", kGiga / 8}}};

constexpr double kLargest = 1e18;

struct Split {
  double number;
  std::string_view unit;
};

/// A non-negative number and what follows it, or nothing.
Result<Split> SplitNumber(std::string_view text, std::string_view expected) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number) || number < 0) {
    return Fail(ErrorKind::kUsage, fmt::format("'{}' is not {}", text, expected));
  }
  return Split{number, text.substr(static_cast<size_t>(end - text.data()))};
}

template <size_t N>
double Factor(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return unit.bytes;
  }
  return 0;
}

Result<uint64_t> Whole(double bytes, std::string_view text, std::string_view expected) {
  if (bytes < 1 || bytes > kLargest) {
    return Fail(ErrorKind::kUsage, fmt::format("'{}' is not {}", text, expected));
  }
  return static_cast<uint64_t>(bytes);
}

}  // namespace

Result<uint64_t> ParseRate(std::string_view text) {
  constexpr std::string_view kExpected = "a rate per second such as 10Gbit or 500MiB";
  FAULTLINE_ASSIGN(const Split split, SplitNumber(text, kExpected));
  const double factor = Factor(kByteUnits, split.unit) + Factor(kBitUnits, split.unit);
  return Whole(split.number * factor, text, kExpected);
}

Result<ByteCount> ParseSize(std::string_view text) {
  constexpr std::string_view kExpected = "a size such as 512KiB or 1MiB";
  FAULTLINE_ASSIGN(const Split split, SplitNumber(text, kExpected));
  const double factor = split.unit.empty() ? 1 : Factor(kByteUnits, split.unit);
  FAULTLINE_ASSIGN(const uint64_t bytes, Whole(split.number * factor, text, kExpected));
  return ByteCount(bytes);
}

Result<std::optional<ByteCount>> ParseWindow(std::string_view text) {
  if (text == "auto") return std::nullopt;
  return ParseSize(text);
}

Result<wire::Compression> ParseCompression(std::string_view text) {
  if (text == "auto") return wire::Compression::kAuto;
  if (text == "off") return wire::Compression::kOff;
  if (text == "lz4") return wire::Compression::kLz4;
  if (text == "zstd") return wire::Compression::kZstd;
  return Fail(ErrorKind::kUsage, fmt::format("'{}' is not auto, off, lz4 or zstd", text));
}

}  // namespace faultline
