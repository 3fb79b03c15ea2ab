// Control frames' bodies: values to bytes and back.
//
// Everything decoded came from a peer that may be broken or hostile: every length, count and
// index is checked here, before anything else sees it. Errors are of kind kPeer.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline::wire {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

/// The header of a frame whose body follows. Refuses unknown types and bodies over the limit.
Result<FrameHeader> DecodeFrameHeader(ByteView bytes);
/// REQUIRES: body_bytes <= kFrameBytesMax.
FrameHeader MakeFrameHeader(FrameType type, size_t body_bytes);
/// "Hello", "Holes", …; for messages.
std::string_view Name(FrameType type);

/// What the source offers.
struct Hello {
  Geometry geometry;
  uint32_t bulk_streams = 1;
  uint64_t bulk_bytes_per_second = 0;  ///< 0: no limit
  Compression compression = Compression::kOff;
};
Bytes EncodeHello(const Hello& hello);
Result<Hello> DecodeHello(ByteView body);

Bytes EncodeWelcome(const WelcomeBody& welcome);
/// Refuses no lane at all, and more than kUrgentLanesMax.
Result<WelcomeBody> DecodeWelcome(ByteView body);

/// Extents and Holes. Runs rise, do not overlap, and each lies inside one region; any length.
inline constexpr size_t kRunsPerFrameMax = kFrameBytesMax / sizeof(RunEntry);
/// REQUIRES: runs.size() <= kRunsPerFrameMax.
Bytes EncodeRuns(std::span<const PageRun> runs);
Result<std::vector<PageRun>> DecodeRuns(ByteView body, const Geometry& geometry);

/// Its body is EncodeRuns of the one run, then the bytes of its pages, 1 … kEarlyBytesMax.
struct EarlyPages {
  PageRun run;
  ByteView bytes;  ///< a part of the body
};
Result<EarlyPages> DecodeEarlyPages(ByteView body, const Geometry& geometry);

Bytes EncodeProgress(const ProgressBody& progress);
Result<ProgressBody> DecodeProgress(ByteView body);

/// Refuse, Abort, Released, Farewell. Text longer than kTextBytesMax is cut.
Bytes EncodeText(std::string_view text);
/// Bytes that would disturb a terminal (all control characters but line feed) become '?'.
Result<std::string> DecodeText(ByteView body);

}  // namespace faultline::wire
