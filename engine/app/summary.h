// The summary of a migration: one JSON object with both sides' numbers (README, "The summary").
//
// The destination knows the pages and the faults, the source the blackout and the total. Each
// sends its part to the other at the end (wire.h: Released, Farewell), so that both write the
// same object.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "engine/core/metrics.h"
#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"
#include "uffd/huge_collapse.h"

namespace faultline {

using SummaryJson = nlohmann::ordered_json;

/// What one side did for READs; nothing if it did none.
struct ReadNumbers {
  std::string device{};
  ByteCount read_bytes{};  ///< page content that came by READs
  ByteCount pinned{};      ///< at its highest
  Nanos registering{};
  uint64_t lost = 0;  ///< lanes of READs that broke
};

struct DestinationNumbers {
  ByteCount guest_bytes{};
  ByteCount data_bytes{};              ///< page content that arrived
  ByteCount wire_bytes{};              ///< page lanes, both directions
  ByteCount window_bytes{};            ///< in flight on the bulk lanes, at the end
  uint64_t bulk_bytes_per_second = 0;  ///< pages on the bulk lanes, as last measured
  ByteCount packed_pages{};            ///< that came packed on the bulk lanes …
  ByteCount packed_sent{};             ///< … and what crossed the wire for them
  wire::Codec codec = wire::Codec::kNone;
  uint64_t pushed_pages = 0;
  uint64_t early_pages = 0;  ///< came before the source's stop, and were still right after it
  uint64_t zero_pages = 0;
  uint64_t hole_pages = 0;
  uint64_t retries = 0;  ///< lanes that were lost and dialled again
  double attach_ms = 0;
  double device_load_ms = 0;
  ReadNumbers reading{};
};

struct SourceNumbers {
  std::string result{};  ///< completed | failed | paused
  Nanos blackout{};      ///< guest stopped → the destination says that it runs
  Nanos total{};         ///< start of migrate → last page placed and acknowledged
  Nanos prepare{};       ///< start of migrate → about to stop the guest
  ByteCount device_bytes{};
  uint64_t first_pages = 0;  ///< expected to be touched first
  uint64_t retries = 0;
  ReadNumbers reading{};
};

SummaryJson DestinationPart(const DestinationNumbers& numbers, const FaultMetrics& faults);
SummaryJson SourcePart(const SourceNumbers& numbers);
/// What `receive` did after the migration: in its own file only, the source does not wait for it.
SummaryJson AfterwardsPart(const CollapseReport& report);

/// The contract's object from both parts; either may be empty where the peer never sent its own.
SummaryJson MergeSummary(const SummaryJson& source, const SummaryJson& destination);

/// A peer's part, out of a Released or Farewell frame; an empty object if it cannot be read.
SummaryJson ParseSummary(std::span<const std::byte> body);

/// What a person wants to know, a few lines.
std::string DescribeSummary(const SummaryJson& summary);
std::string DescribeAfterwards(const CollapseReport& report);

/// Writes the object, whole or not at all (a new file, then a rename). Empty path: nothing to do.
Status WriteSummary(const std::string& path, const SummaryJson& summary);

/// User and system time of this process so far, in seconds.
double ProcessCpuSeconds();

}  // namespace faultline
