// What both sides say about one-sided READs: frames of the control lane (wire.h), and the private
// data of a queue pair's connection. The same rules: little-endian, fixed layouts, 0 invalid, every
// length bounded.
//
//   source                                     destination
//     RdmaRegions*                ──────────►  what may be read: pages, remote address, key
//     RdmaOffer(address, port)    ──────────►  no more regions; where queue pairs are accepted
//                                 ◄══════════  ConnectWords, one connection for each lane
//                                 ◄──────────  RdmaAnswer(yes, or why not)
//     … Stopped …
//     RdmaCurrent*                ──────────►  runs whose registration is proved current
//
// The destination dials: it alone sees a READ fail, and builds the lane again by itself. Lanes over
// TCP stand beside the queue pairs all the time, for what is not registered, not current yet or
// not to be reached any more.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/page_channel.h"
#include "engine/core/result.h"
#include "engine/core/wire.h"
#include "engine/core/wire_codec.h"

namespace faultline::wire {

/// Of the RDMA part alone: both sides must have the same.
inline constexpr uint16_t kRdmaVersion = 1;
/// Memory regions of one migration.
inline constexpr uint32_t kRdmaRegionsMax = 16 * 1024;

/// Body of RdmaRegions: any number of these that fits. Rising, not overlapping, each inside one
/// region of guest RAM.
struct RdmaRegionEntry {
  uint64_t first;
  uint64_t count;
  uint64_t address;
  uint32_t key;
  uint32_t reserved;  ///< zero
};
static_assert(sizeof(RdmaRegionEntry) == 32 && std::is_trivially_copyable_v<RdmaRegionEntry>);

/// Body of RdmaOffer: this, then the address as text.
struct RdmaOfferBody {
  uint16_t version;  ///< kRdmaVersion
  uint16_t port;
  uint16_t host_length;  ///< 1 … kRdmaHostLengthMax
  uint16_t reserved;     ///< zero
};
static_assert(sizeof(RdmaOfferBody) == 8 && std::is_trivially_copyable_v<RdmaOfferBody>);
inline constexpr uint16_t kRdmaHostLengthMax = 64;

/// Body of RdmaAnswer: this, then why not.
struct RdmaAnswerBody {
  uint32_t accepted;  ///< 1 yes, 2 no
  uint32_t reserved;  ///< zero
};
static_assert(sizeof(RdmaAnswerBody) == 8 && std::is_trivially_copyable_v<RdmaAnswerBody>);

/// Private data of a connection request. Transports pad it: hence the length of its own.
struct ConnectWords {
  uint16_t length;  ///< sizeof(ConnectWords)
  uint16_t version;
  uint8_t lane;  ///< LaneKind, never kControl
  uint8_t reserved[3];
  uint32_t stream;
  uint32_t reserved_too;
  uint64_t generation;  ///< of the lane, from 1; every dial counts up
  MigrationId migration;
};
static_assert(sizeof(ConnectWords) == 40 && std::is_trivially_copyable_v<ConnectWords>);
static_assert(sizeof(ConnectWords) <= 56, "what a connection request of RDMA_PS_TCP carries");

/// Pages that the peer's queue pair answers READs for.
struct RdmaRegion {
  PageRun run;
  uint64_t address = 0;  ///< of its first page, as READs name it
  uint32_t key = 0;

  friend bool operator==(const RdmaRegion&, const RdmaRegion&) = default;
};

inline constexpr size_t kRdmaRegionsPerFrameMax = kFrameBytesMax / sizeof(RdmaRegionEntry);
/// REQUIRES: regions.size() <= kRdmaRegionsPerFrameMax.
Bytes EncodeRdmaRegions(std::span<const RdmaRegion> regions);
Result<std::vector<RdmaRegion>> DecodeRdmaRegions(ByteView body, const Geometry& geometry);

struct RdmaOffer {
  std::string host;  ///< a numeric address
  uint16_t port = 0;
};
Bytes EncodeRdmaOffer(const RdmaOffer& offer);
Result<RdmaOffer> DecodeRdmaOffer(ByteView body);

/// Empty: yes. Else why not, one line.
Bytes EncodeRdmaAnswer(const std::string& why_not);
Result<std::string> DecodeRdmaAnswer(ByteView body);

struct LaneIdentity {
  LaneKind lane = LaneKind::kInvalid;
  uint32_t stream = 0;
  uint64_t generation = 1;
  MigrationId migration{};
};
ConnectWords MakeConnectWords(const LaneIdentity& lane);
/// `words` may be longer than what was sent, or hostile.
Result<LaneIdentity> ReadConnectWords(ByteView words);

}  // namespace faultline::wire
