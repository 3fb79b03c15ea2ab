// The source: a stateless page server. "Give me run R" gets the bytes, in one pass:
// check the request, find which pages are all zero, describe the rest as a list of segments that
// the transport sends straight from guest RAM.
//
// One instance per lane and thread. The guest is stopped, so what a page holds does not change.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/source_memory.h"
#include "engine/core/wire.h"

namespace faultline {

/// A reply, ready to be gathered: header first, then the segments in order.
struct ReplyPlan {
  wire::PageReply header;
  std::array<std::span<const std::byte>, kRunPagesMax> segments;
  /// The pages of each segment that lie in guest RAM; empty for a copy.
  std::array<PageRun, kRunPagesMax> pages;
  size_t segment_count = 0;
  ByteCount data_bytes;
  bool copied = false;  ///< some of it lies in the server's own memory
};

class PageServer {
 public:
  /// All three outlive the server. Allocates its scratch (one run) here and nothing later.
  PageServer(const RamWindow& ram, const PresenceMap& presence, PageReader& reader);

  /// Makes `plan` the reply to `request`. If it is copied, it is valid until the next Plan. False:
  /// the request is malformed or not within the geometry, or guest RAM could not be read; the lane
  /// is to be closed.
  [[nodiscard]] bool Plan(const wire::PageRequest& request, ReplyPlan& plan);

  /// Where a segment of the plan can be sent from without copying; nothing if it cannot.
  [[nodiscard]] std::optional<FilePlace> PlaceOf(const ReplyPlan& plan, size_t segment) const {
    if (plan.pages[segment].empty()) return std::nullopt;
    return reader_.PlaceOf(plan.pages[segment]);
  }

  [[nodiscard]] uint64_t pages_served() const { return pages_served_; }

 private:
  bool AddPage(PageIndex page, size_t bit, bool may_map, ReplyPlan& plan);

  const RamWindow& ram_;
  const PresenceMap& presence_;
  PageReader& reader_;
  std::vector<std::byte> scratch_;
  uint64_t pages_served_ = 0;
};

}  // namespace faultline
