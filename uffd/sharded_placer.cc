#include "uffd/sharded_placer.h"

#include <utility>

#include "engine/core/check.h"

namespace faultline {

ShardedPlacer::ShardedPlacer(const ShardMap& shards,
                             std::vector<std::unique_ptr<UffdPlacer>> placers)
    : shards_(shards), placers_(std::move(placers)) {
  FAULTLINE_CHECK(placers_.size() == shards.shard_count());
}

PlaceResult ShardedPlacer::Map(PageRun run, PlaceResult (UffdPlacer::*how)(PageRun)) {
  PlaceResult result = PlaceResult::kPlaced;
  while (!run.empty()) {
    const PageRun piece = shards_.InOneShard(run);
    const PlaceResult done = ((*placers_[shards_.ShardOf(piece.first)]).*how)(piece);
    if (done == PlaceResult::kRetry || done == PlaceResult::kGone) return done;
    if (done == PlaceResult::kAlreadyPresent) result = done;
    run = {piece.end(), run.count - piece.count};
  }
  return result;
}

void ShardedPlacer::ForEachShard(PageRun run, void (UffdPlacer::*what)(PageRun)) {
  while (!run.empty()) {
    const PageRun piece = shards_.InOneShard(run);
    ((*placers_[shards_.ShardOf(piece.first)]).*what)(piece);
    run = {piece.end(), run.count - piece.count};
  }
}

}  // namespace faultline
