// What crosses the network, byte for byte. Little-endian, fixed layouts, 0 is always invalid,
// every length bounded. Versioned by kWireVersion in the preamble of every connection.
//
// Every connection, whatever its lane, goes to the destination's one port and opens with
//
//   source ── Preamble ──────────────► destination
//   source ◄────────── PreambleReply ─ destination
//
// Page lanes (urgent, bulk), afterwards, both directions at once:
//
//   source ◄─ PageRequest* ─ destination
//   source ─ (PageReply+, bytes of the pages whose bit is set, in page order)* ─► destination
//
// in the order of the requests. The reply repeats the request; it never says where bytes go.
// Several replies may come together: first all their headers, then the bytes of each, so that
// neither end makes a system call for every header.
// A request may ask for packed pages; its reply comes alone: (PageReply, Packing, packed bytes or
// pages).
//
// The control lane carries frames (FrameHeader, body). One migration, in order:
//
//   source                                     destination
//     Hello(geometry, limits)     ──────────►
//                                 ◄──────────  Welcome(urgent lanes) | Refuse(text)
//     (RdmaRegions*, RdmaOffer    ──────────►  dials the source's queue pairs: rdma_wire.h
//                                 ◄──────────  RdmaAnswer)
//     Extents*, ExtentsDone       ──────────►  makes room for them; the guest still runs
//     FirstPages*                 ──────────►  what the guest will touch first
//     EarlyPages*, EarlyDone      ──────────►  … and will hardly have changed by then, with bytes
//                                 ◄──────────  Prepared (attached, lanes up, room made)
//     DeviceState*                ◄─────────►  DeviceState* (QEMU's own stream and return path)
//     Stopped (guest paused)      ──────────►  from here every request is answered for good
//     Saved (QEMU's part is out)  ──────────►  bulk lanes open
//     Unchanged*                  ──────────►  EarlyPages that are still as they were sent
//     (RdmaCurrent*               ──────────►  what may be read without asking)
//                                 ◄──────────  Loaded (paused, pager armed)
//     Go (committed)              ──────────►  never before Loaded and QEMU's `completed`
//                                 ◄──────────  Started (the guest runs there)
//     Holes*, HolesDone           ──────────►  final: what there is nothing of
//                                 ◄──────────  Progress* (also the sign of life)
//                                 ◄──────────  Released(summary): no page is missing
//     Farewell(summary)           ──────────►
//
// Before Go either side may send Abort(text): the source resumes its guest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "engine/core/units.h"

namespace faultline::wire {

inline constexpr uint64_t kMagic = 0x314E4C544C554146;  ///< "FAULTLN1"
inline constexpr uint16_t kWireVersion = 9;

/// Random, made by the source, the same on every connection of one migration.
using MigrationId = std::array<uint8_t, 16>;

struct Preamble {
  uint64_t magic;
  uint16_t version;
  uint8_t lane;         ///< LaneKind
  uint8_t reserved;     ///< zero
  uint32_t stream;      ///< which urgent or bulk lane, from 0; zero for control
  uint64_t generation;  ///< of the lane, from 1; a redial counts up
  MigrationId migration;
};
static_assert(sizeof(Preamble) == 40 && std::is_trivially_copyable_v<Preamble>);

enum class PreambleStatus : uint16_t {
  kInvalid = 0,
  kAccepted = 1,
  kBusy,  ///< another migration has this port
  kVersionMismatch,
  kUnknownMigration,  ///< a page lane, or a redial, for a migration that is not here
  kStaleGeneration,
};

struct PreambleReply {
  uint64_t magic;
  uint16_t version;
  uint16_t status;  ///< PreambleStatus
  uint32_t reserved;
};
static_assert(sizeof(PreambleReply) == 16 && std::is_trivially_copyable_v<PreambleReply>);

enum class PageMessage : uint32_t {
  kInvalid = 0,
  kRequest = 0x51474150,
  kReply = 0x52474150,
  kRequestLz4 = 0x344C4150,   ///< likewise, but the reply may be packed with LZ4 …
  kRequestZstd = 0x5A4C4150,  ///< … or Zstandard
};

/// How a run's bytes are packed.
enum class Codec : uint8_t { kNone = 1, kLz4, kZstd };

constexpr PageMessage RequestIn(Codec codec) {
  if (codec == Codec::kLz4) return PageMessage::kRequestLz4;
  return codec == Codec::kZstd ? PageMessage::kRequestZstd : PageMessage::kRequest;
}
/// Nothing: not a request.
constexpr std::optional<Codec> CodecOfRequest(uint32_t kind) {
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    if (kind == static_cast<uint32_t>(RequestIn(codec))) return codec;
  }
  return std::nullopt;
}

struct PageRequest {
  uint32_t kind;   ///< PageMessage::kRequest, kRequestLz4, kRequestZstd
  uint32_t count;  ///< 1 … kRunPagesMax
  uint64_t first;  ///< PageIndex
  uint64_t id;     ///< from 1, rising by one on each lane
};
static_assert(sizeof(PageRequest) == 24 && std::is_trivially_copyable_v<PageRequest>);

struct PageReply {
  uint32_t kind;  ///< PageMessage::kReply
  uint32_t count;
  uint64_t first;
  uint64_t id;
  uint64_t data_pages;      ///< bit i: the bytes of page first+i follow; clear: it is all zero
  uint32_t turned_ns;       ///< request read → reply about to be sent, by the source's clock
  uint16_t headers_behind;  ///< come before any bytes; one less in each, at most kTogetherMax - 1
  uint16_t looks;           ///< 1: the source looks for the next request instead of sleeping; or 0
};
static_assert(sizeof(PageReply) == 40 && std::is_trivially_copyable_v<PageReply>);
static_assert(kRunPagesMax <= 64, "one bit per page in PageReply::data_pages");

/// So many replies may come together.
inline constexpr uint32_t kTogetherMax = 16;

/// Follows the PageReply to a request for packed pages.
struct Packing {
  uint32_t bytes;    ///< that follow, fewer than the pages; 0: the pages follow as they are
  uint32_t took_ns;  ///< what packing took the source, also where it was for nothing
};
static_assert(sizeof(Packing) == 8 && std::is_trivially_copyable_v<Packing>);

enum class FrameType : uint16_t {
  kInvalid = 0,
  kHello = 1,
  kWelcome = 2,
  kRefuse = 3,
  kExtents = 4,
  kExtentsDone = 5,
  kPrepared = 6,
  kDeviceState = 7,
  kStopped = 8,
  kHoles = 9,
  kHolesDone = 10,
  kLoaded = 11,
  kGo = 12,
  kStarted = 13,
  kProgress = 14,
  kReleased = 15,
  kFarewell = 16,
  kAbort = 17,
  kRdmaRegions = 18,
  kRdmaOffer = 19,
  kRdmaAnswer = 20,
  kRdmaCurrent = 21,
  kFirstPages = 22,
  kEarlyPages = 23,
  kUnchanged = 24,
  kEarlyDone = 25,
  kSaved = 26,
};
inline constexpr uint16_t kFrameTypeLast = 26;

struct FrameHeader {
  uint32_t length;  ///< of the body; at most kFrameBytesMax
  uint16_t type;    ///< FrameType
  uint16_t reserved;
};
static_assert(sizeof(FrameHeader) == 8 && std::is_trivially_copyable_v<FrameHeader>);

inline constexpr uint32_t kFrameBytesMax = 256 * 1024;
/// Refuse, Abort: a line for the operator. Released, Farewell: a JSON object.
inline constexpr uint32_t kTextBytesMax = 64 * 1024;

/// Body of Hello: this, then region_count RegionEntry.
struct HelloBody {
  uint32_t region_count;           ///< 1 … kRegionsMax
  uint32_t bulk_streams;           ///< 1 … kBulkStreamsMax
  uint64_t bulk_bytes_per_second;  ///< --max-bandwidth; 0 is no limit
  uint32_t compression;            ///< Compression: what to ask for on the bulk lanes
  uint32_t reserved;               ///< zero
};
static_assert(sizeof(HelloBody) == 24 && std::is_trivially_copyable_v<HelloBody>);
inline constexpr uint32_t kBulkStreamsMax = 16;

enum class Compression : uint32_t { kInvalid = 0, kOff = 1, kLz4, kZstd, kAuto };

/// Body of Welcome.
struct WelcomeBody {
  uint32_t urgent_lanes;  ///< 1 … kUrgentLanesMax: one for each of the destination's shards
  uint32_t reserved;      ///< zero
};
static_assert(sizeof(WelcomeBody) == 8 && std::is_trivially_copyable_v<WelcomeBody>);
inline constexpr uint32_t kUrgentLanesMax = 16;

struct RegionEntry {
  uint64_t length;
  uint64_t page_size;
  char id[64];  ///< terminated by zero
};
static_assert(sizeof(RegionEntry) == 80 && std::is_trivially_copyable_v<RegionEntry>);

/// Body of Extents, FirstPages, Unchanged and Holes: any number of these that fits. Rising, not
/// overlapping.
struct RunEntry {
  uint64_t first;
  uint64_t count;
};
static_assert(sizeof(RunEntry) == 16 && std::is_trivially_copyable_v<RunEntry>);

/// Body of EarlyPages: one RunEntry, then at most so many bytes: those of its pages.
inline constexpr uint32_t kEarlyBytesMax = 128 * 1024;

/// Body of Progress.
struct ProgressBody {
  uint64_t missing_pages;
  uint64_t total_pages;
  uint64_t placed_bytes;
  uint64_t faults;
  uint64_t fault_p50_ns;
  uint64_t fault_p99_ns;
};
static_assert(sizeof(ProgressBody) == 48 && std::is_trivially_copyable_v<ProgressBody>);

static_assert(sizeof(void*) == 8);
#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "layouts are used as they lie in memory");
#endif

}  // namespace faultline::wire
