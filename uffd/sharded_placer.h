// The placer of a guest whose RAM has several userfaultfds: each page is mapped through the one
// that it is registered with, because a wake reaches only the waiters of its own.
#pragma once

#include <memory>
#include <vector>

#include "engine/core/shard_map.h"
#include "uffd/uffd_placer.h"

namespace faultline {

class ShardedPlacer final : public PagePlacer {
 public:
  /// REQUIRES: one placer for each shard, in their order. `shards` outlives this.
  ShardedPlacer(const ShardMap& shards, std::vector<std::unique_ptr<UffdPlacer>> placers);

  PlaceResult MapHeld(PageRun run) override { return Map(run, &UffdPlacer::MapHeld); }
  PlaceResult MapZero(PageRun run) override { return Map(run, &UffdPlacer::MapZero); }
  PlaceResult MapAgain(PageRun run) override { return Map(run, &UffdPlacer::MapAgain); }
  void Empty(PageRun run) override { placers_[0]->Empty(run); }
  void Wake(PageRun run) override { ForEachShard(run, &UffdPlacer::Wake); }
  void Retire(PageRun run) override { ForEachShard(run, &UffdPlacer::Retire); }

  [[nodiscard]] const UffdPlacer& placer(size_t shard) const { return *placers_[shard]; }

 private:
  /// Stops where one shard cannot go on: what lies before is mapped, and may be mapped again.
  PlaceResult Map(PageRun run, PlaceResult (UffdPlacer::*how)(PageRun));
  void ForEachShard(PageRun run, void (UffdPlacer::*what)(PageRun));

  const ShardMap& shards_;
  const std::vector<std::unique_ptr<UffdPlacer>> placers_;
};

}  // namespace faultline
