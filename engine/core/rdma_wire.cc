#include "engine/core/rdma_wire.h"

#include <cstring>
#include <utility>

#include "engine/core/check.h"

namespace faultline::wire {
namespace {

tl::unexpected<Error> Malformed(const std::string& what, const std::string& why) {
  return Fail(ErrorKind::kPeer, "the peer sent a malformed " + what + " (" + why +
                                    "); is it the same version of faultline?");
}

template <class T>
void Append(Bytes& bytes, const T& value) {
  const size_t old_size = bytes.size();
  bytes.resize(old_size + sizeof(T));
  std::memcpy(bytes.data() + old_size, &value, sizeof(T));
}

void AppendText(Bytes& bytes, const std::string& text) {
  // Not insert(): g++ 12 with -O3 takes its reallocation for an access out of bounds.
  for (const char each : text) bytes.push_back(static_cast<std::byte>(each));
}

/// REQUIRES: bytes.size() >= sizeof(T).
template <class T>
T Take(ByteView& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes = bytes.subspan(sizeof(T));
  return value;
}

/// Inside one region of guest RAM, at `lowest` or later, and its addresses do not wrap round.
bool IsAcceptable(const RdmaRegionEntry& entry, uint64_t lowest, const Geometry& geometry) {
  const uint64_t pages = geometry.page_count().value();
  if (entry.first < lowest || entry.first >= pages || entry.reserved != 0) return false;
  if (entry.count == 0 || entry.count > pages - entry.first) return false;
  const PageRun run{PageIndex(entry.first), PageCount(entry.count)};
  if (run.end() > geometry.pages_of(geometry.RegionOf(run.first)).end()) return false;
  return entry.address <= UINT64_MAX - geometry.BytesOf(run).value();
}

}  // namespace

Bytes EncodeRdmaRegions(std::span<const RdmaRegion> regions) {
  FAULTLINE_CHECK(regions.size() <= kRdmaRegionsPerFrameMax);
  Bytes bytes;
  bytes.reserve(regions.size() * sizeof(RdmaRegionEntry));
  for (const RdmaRegion& region : regions) {
    Append(bytes, RdmaRegionEntry{region.run.first.value(), region.run.count.value(),
                                  region.address, region.key, 0});
  }
  return bytes;
}

Result<std::vector<RdmaRegion>> DecodeRdmaRegions(ByteView body, const Geometry& geometry) {
  if (body.size() % sizeof(RdmaRegionEntry) != 0 || body.size() > kFrameBytesMax) {
    return Malformed("RdmaRegions", "wrong length");
  }
  std::vector<RdmaRegion> regions;
  regions.reserve(body.size() / sizeof(RdmaRegionEntry));
  uint64_t lowest = 0;
  while (!body.empty()) {
    const auto entry = Take<RdmaRegionEntry>(body);
    if (!IsAcceptable(entry, lowest, geometry)) {
      return Malformed("RdmaRegions", "pages " + std::to_string(entry.first) + "+" +
                                          std::to_string(entry.count) +
                                          " are empty, out of order or outside of guest RAM");
    }
    lowest = entry.first + entry.count;
    regions.push_back({{PageIndex(entry.first), PageCount(entry.count)}, entry.address, entry.key});
  }
  return regions;
}

Bytes EncodeRdmaOffer(const RdmaOffer& offer) {
  FAULTLINE_CHECK(!offer.host.empty() && offer.host.size() <= kRdmaHostLengthMax);
  Bytes bytes;
  Append(bytes,
         RdmaOfferBody{kRdmaVersion, offer.port, static_cast<uint16_t>(offer.host.size()), 0});
  AppendText(bytes, offer.host);
  return bytes;
}

Result<RdmaOffer> DecodeRdmaOffer(ByteView body) {
  if (body.size() < sizeof(RdmaOfferBody)) return Malformed("RdmaOffer", "too short");
  const auto fixed = Take<RdmaOfferBody>(body);
  if (fixed.version != kRdmaVersion) {
    return Malformed("RdmaOffer", "version " + std::to_string(fixed.version));
  }
  const bool sized = fixed.host_length >= 1 && fixed.host_length <= kRdmaHostLengthMax;
  if (!sized || body.size() != fixed.host_length || fixed.reserved != 0 || fixed.port == 0) {
    return Malformed("RdmaOffer", "no address and port");
  }
  FAULTLINE_ASSIGN(std::string host, DecodeText(body));
  return RdmaOffer{std::move(host), fixed.port};
}

Bytes EncodeRdmaAnswer(const std::string& why_not) {
  Bytes bytes;
  Append(bytes, RdmaAnswerBody{why_not.empty() ? 1U : 2U, 0});
  AppendText(bytes, why_not.substr(0, kTextBytesMax));
  return bytes;
}

Result<std::string> DecodeRdmaAnswer(ByteView body) {
  if (body.size() < sizeof(RdmaAnswerBody)) return Malformed("RdmaAnswer", "too short");
  const auto fixed = Take<RdmaAnswerBody>(body);
  const bool known = fixed.accepted == 1 || fixed.accepted == 2;
  // Yes has no reason, no has one.
  if (!known || fixed.reserved != 0 || (fixed.accepted == 1) != body.empty()) {
    return Malformed("RdmaAnswer", "neither yes nor no");
  }
  return DecodeText(body);
}

ConnectWords MakeConnectWords(const LaneIdentity& lane) {
  return {sizeof(ConnectWords), kRdmaVersion,  static_cast<uint8_t>(lane.lane), {}, lane.stream, 0,
          lane.generation,      lane.migration};
}

Result<LaneIdentity> ReadConnectWords(ByteView words) {
  if (words.size() < sizeof(ConnectWords)) return Malformed("connection request", "too short");
  const auto fixed = Take<ConnectWords>(words);
  if (fixed.length != sizeof(ConnectWords) || fixed.version != kRdmaVersion) {
    return Malformed("connection request", "wrong length or version");
  }
  const auto lane = static_cast<LaneKind>(fixed.lane);
  const bool pages = lane == LaneKind::kUrgent || lane == LaneKind::kBulk;
  const uint32_t streams = lane == LaneKind::kUrgent ? kUrgentLanesMax : kBulkStreamsMax;
  if (!pages || fixed.stream >= streams || fixed.generation == 0) {
    return Malformed("connection request", "no such lane");
  }
  return LaneIdentity{lane, fixed.stream, fixed.generation, fixed.migration};
}

}  // namespace faultline::wire
