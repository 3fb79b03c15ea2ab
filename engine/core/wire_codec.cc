#include "engine/core/wire_codec.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/core/check.h"

namespace faultline::wire {
namespace {

tl::unexpected<Error> Malformed(std::string_view what, std::string_view why) {
  return Fail(ErrorKind::kPeer, "the peer sent a malformed " + std::string(what) + " (" +
                                    std::string(why) + "); is it the same version of faultline?");
}

template <class T>
void Append(Bytes& bytes, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  const size_t old_size = bytes.size();
  bytes.resize(old_size + sizeof(T));
  std::memcpy(bytes.data() + old_size, &value, sizeof(T));
}

/// REQUIRES: bytes.size() >= sizeof(T).
template <class T>
T Take(ByteView& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes = bytes.subspan(sizeof(T));
  return value;
}

Result<RegionShape> ShapeFrom(const RegionEntry& entry) {
  const void* end = std::memchr(entry.id, 0, sizeof(entry.id));
  if (end == nullptr) return Malformed("Hello", "a region's id has no end");
  const PageSize page_size(entry.page_size);
  if (!page_size.valid()) return Malformed("Hello", "a region's page size is not one");
  return RegionShape{std::string(entry.id), ByteCount(entry.length), page_size};
}

RegionEntry EntryFrom(const RegionShape& shape) {
  static_assert(sizeof(RegionEntry::id) == kRegionIdLengthMax + 1);
  RegionEntry entry{};
  entry.length = shape.length.value();
  entry.page_size = shape.page_size.bytes();
  std::memcpy(entry.id, shape.id.data(), shape.id.size());
  return entry;
}

/// A run of any length inside one region, that starts at `lowest` or later.
bool IsAcceptable(const RunEntry& entry, uint64_t lowest, const Geometry& geometry) {
  const uint64_t pages = geometry.page_count().value();
  if (entry.first < lowest || entry.first >= pages) return false;
  if (entry.count == 0 || entry.count > pages - entry.first) return false;
  const size_t region = geometry.RegionOf(PageIndex(entry.first));
  return entry.first + entry.count <= geometry.pages_of(region).end().value();
}

}  // namespace

Result<FrameHeader> DecodeFrameHeader(ByteView bytes) {
  if (bytes.size() != sizeof(FrameHeader)) return Malformed("frame header", "wrong length");
  const auto header = Take<FrameHeader>(bytes);
  if (header.type == 0 || header.type > kFrameTypeLast) {
    return Malformed("frame header", "unknown type " + std::to_string(header.type));
  }
  if (header.length > kFrameBytesMax) {
    return Malformed("frame header", "body of " + std::to_string(header.length) + " bytes");
  }
  if (header.reserved != 0) return Malformed("frame header", "reserved bits are set");
  return header;
}

FrameHeader MakeFrameHeader(FrameType type, size_t body_bytes) {
  FAULTLINE_CHECK(body_bytes <= kFrameBytesMax);
  return {static_cast<uint32_t>(body_bytes), static_cast<uint16_t>(type), 0};
}

std::string_view Name(FrameType type) {
  switch (type) {
    case FrameType::kInvalid: return "Invalid";
    case FrameType::kHello: return "Hello";
    case FrameType::kWelcome: return "Welcome";
    case FrameType::kRefuse: return "Refuse";
    case FrameType::kExtents: return "Extents";
    case FrameType::kExtentsDone: return "ExtentsDone";
    case FrameType::kPrepared: return "Prepared";
    case FrameType::kDeviceState: return "DeviceState";
    case FrameType::kStopped: return "Stopped";
    case FrameType::kHoles: return "Holes";
    case FrameType::kHolesDone: return "HolesDone";
    case FrameType::kLoaded: return "Loaded";
    case FrameType::kGo: return "Go";
    case FrameType::kStarted: return "Started";
    case FrameType::kProgress: return "Progress";
    case FrameType::kReleased: return "Released";
    case FrameType::kFarewell: return "Farewell";
    case FrameType::kAbort: return "Abort";
    case FrameType::kRdmaRegions: return "RdmaRegions";
    case FrameType::kRdmaOffer: return "RdmaOffer";
    case FrameType::kRdmaAnswer: return "RdmaAnswer";
    case FrameType::kRdmaCurrent: return "RdmaCurrent";
    case FrameType::kFirstPages: return "FirstPages";
    case FrameType::kEarlyPages: return "EarlyPages";
    case FrameType::kUnchanged: return "Unchanged";
    case FrameType::kEarlyDone: return "EarlyDone";
    case FrameType::kSaved: return "Saved";
  }
  return "Unknown";
}

Bytes EncodeHello(const Hello& hello) {
  Bytes bytes;
  Append(bytes, HelloBody{static_cast<uint32_t>(hello.geometry.region_count()),
                          hello.bulk_streams, hello.bulk_bytes_per_second,
                          static_cast<uint32_t>(hello.compression), 0});
  for (size_t i = 0; i < hello.geometry.region_count(); ++i) {
    Append(bytes, EntryFrom(hello.geometry.shape(i)));
  }
  return bytes;
}

Result<Hello> DecodeHello(ByteView body) {
  if (body.size() < sizeof(HelloBody)) return Malformed("Hello", "too short");
  const auto fixed = Take<HelloBody>(body);
  if (fixed.region_count < 1 || fixed.region_count > kRegionsMax) {
    return Malformed("Hello", std::to_string(fixed.region_count) + " regions");
  }
  if (fixed.bulk_streams < 1 || fixed.bulk_streams > kBulkStreamsMax) {
    return Malformed("Hello", std::to_string(fixed.bulk_streams) + " bulk streams");
  }
  if (fixed.compression < static_cast<uint32_t>(Compression::kOff) ||
      fixed.compression > static_cast<uint32_t>(Compression::kAuto) || fixed.reserved != 0) {
    return Malformed("Hello", "unknown compression " + std::to_string(fixed.compression));
  }
  if (body.size() != fixed.region_count * sizeof(RegionEntry)) {
    return Malformed("Hello", "length and number of regions differ");
  }
  std::vector<RegionShape> shapes;
  while (!body.empty()) {
    FAULTLINE_ASSIGN(RegionShape shape, ShapeFrom(Take<RegionEntry>(body)));
    shapes.push_back(std::move(shape));
  }
  Result<Geometry> geometry = Geometry::Create(std::move(shapes));
  if (!geometry) return Malformed("Hello", geometry.error().message);
  return Hello{*std::move(geometry), fixed.bulk_streams, fixed.bulk_bytes_per_second,
               static_cast<Compression>(fixed.compression)};
}

Bytes EncodeRuns(std::span<const PageRun> runs) {
  FAULTLINE_CHECK(runs.size() <= kRunsPerFrameMax);
  Bytes bytes;
  bytes.reserve(runs.size() * sizeof(RunEntry));
  for (const PageRun& run : runs) Append(bytes, RunEntry{run.first.value(), run.count.value()});
  return bytes;
}

Result<std::vector<PageRun>> DecodeRuns(ByteView body, const Geometry& geometry) {
  if (body.size() % sizeof(RunEntry) != 0 || body.size() > kFrameBytesMax) {
    return Malformed("list of runs", "wrong length");
  }
  std::vector<PageRun> runs;
  runs.reserve(body.size() / sizeof(RunEntry));
  uint64_t lowest = 0;
  while (!body.empty()) {
    const auto entry = Take<RunEntry>(body);
    if (!IsAcceptable(entry, lowest, geometry)) {
      return Malformed("list of runs", "run " + std::to_string(entry.first) + "+" +
                                           std::to_string(entry.count) +
                                           " is empty, out of order or outside of its region");
    }
    lowest = entry.first + entry.count;
    runs.push_back({PageIndex(entry.first), PageCount(entry.count)});
  }
  return runs;
}

Result<EarlyPages> DecodeEarlyPages(ByteView body, const Geometry& geometry) {
  if (body.size() < sizeof(RunEntry)) return Malformed("EarlyPages", "too short");
  const auto entry = Take<RunEntry>(body);
  if (!IsAcceptable(entry, 0, geometry)) return Malformed("EarlyPages", "not a run of guest RAM");
  const PageRun run{PageIndex(entry.first), PageCount(entry.count)};
  if (body.size() > kEarlyBytesMax || !geometry.IsRequestable(run) ||
      geometry.BytesOf(run).value() != body.size()) {
    return Malformed("EarlyPages", "length and number of pages differ");
  }
  return EarlyPages{run, body};
}

Bytes EncodeWelcome(const WelcomeBody& welcome) {
  Bytes bytes;
  Append(bytes, welcome);
  return bytes;
}

Result<WelcomeBody> DecodeWelcome(ByteView body) {
  if (body.size() != sizeof(WelcomeBody)) return Malformed("Welcome", "wrong length");
  const auto welcome = Take<WelcomeBody>(body);
  if (welcome.urgent_lanes < 1 || welcome.urgent_lanes > kUrgentLanesMax) {
    return Malformed("Welcome", std::to_string(welcome.urgent_lanes) + " urgent lanes");
  }
  if (welcome.reserved != 0) return Malformed("Welcome", "reserved bits are set");
  return welcome;
}

Bytes EncodeProgress(const ProgressBody& progress) {
  Bytes bytes;
  Append(bytes, progress);
  return bytes;
}

Result<ProgressBody> DecodeProgress(ByteView body) {
  if (body.size() != sizeof(ProgressBody)) return Malformed("Progress", "wrong length");
  const auto progress = Take<ProgressBody>(body);
  if (progress.missing_pages > progress.total_pages) {
    return Malformed("Progress", "more pages missing than there are");
  }
  return progress;
}

Bytes EncodeText(std::string_view text) {
  text = text.substr(0, kTextBytesMax);
  Bytes bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(),
                 [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

Result<std::string> DecodeText(ByteView body) {
  if (body.size() > kTextBytesMax) return Malformed("text", "too long");
  std::string text(body.size(), ' ');
  std::transform(body.begin(), body.end(), text.begin(), [](std::byte b) {
    const auto c = static_cast<char>(b);
    const bool control = (b < std::byte{0x20} && c != '\n') || b == std::byte{0x7F};
    return control ? '?' : c;
  });
  return text;
}

}  // namespace faultline::wire
