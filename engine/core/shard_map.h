// Which userfaultfd a page belongs to. Guest RAM is cut into stripes, dealt out to the shards in
// turn: each shard has a userfaultfd, a fault thread and an urgent lane of its own, so that many
// vCPUs do not queue behind one lock and one thread.
//
// Stripes, not halves: guests touch memory in places, and a place should not be one shard's. A
// stripe is a mapping of its own inside the VMM while the guest moves, hence their limit.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline {

inline constexpr size_t kShardsMax = 16;

/// Immutable. Threads: any.
class ShardMap {
 public:
  /// A stripe covers whole huge pages of a VMM that maps its RAM aligned.
  static constexpr ByteCount kStripeBytesMin{uint64_t{2} << 20};
  static constexpr uint64_t kStripesMax = 256;  ///< of a guest, about

  /// REQUIRES: 1 <= shards <= kShardsMax; `geometry` outlives the map.
  ShardMap(const Geometry& geometry, size_t shards);

  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] size_t shard_count() const { return shards_; }
  /// REQUIRES: page < geometry.page_count().
  [[nodiscard]] size_t ShardOf(PageIndex page) const;
  /// The longest beginning of `run` that belongs to one shard.
  [[nodiscard]] PageRun InOneShard(PageRun run) const;
  /// All pages, in pieces of one shard each, rising; as long as they can be.
  [[nodiscard]] std::vector<PageRun> Stripes() const;

 private:
  [[nodiscard]] PageCount StripePages(size_t region) const;

  const Geometry& geometry_;
  const size_t shards_;
  ByteCount stripe_bytes_ = kStripeBytesMin;
};

}  // namespace faultline
