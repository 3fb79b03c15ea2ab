#include "engine/core/shard_map.h"

#include <algorithm>

#include "engine/core/check.h"

namespace faultline {

ShardMap::ShardMap(const Geometry& geometry, size_t shards) : geometry_(geometry), shards_(shards) {
  FAULTLINE_CHECK(shards >= 1 && shards <= kShardsMax);
  while (geometry.byte_count().value() / stripe_bytes_.value() > kStripesMax) {
    stripe_bytes_ += stripe_bytes_;
  }
}

PageCount ShardMap::StripePages(size_t region) const {
  const uint64_t page_bytes = geometry_.shape(region).page_size.bytes();
  return PageCount(std::max<uint64_t>(1, stripe_bytes_.value() / page_bytes));
}

size_t ShardMap::ShardOf(PageIndex page) const {
  if (shards_ == 1) return 0;
  const size_t region = geometry_.RegionOf(page);
  const PageCount from_start = page - geometry_.pages_of(region).first;
  return static_cast<size_t>((from_start.value() / StripePages(region).value() + region) % shards_);
}

PageRun ShardMap::InOneShard(PageRun run) const {
  if (shards_ == 1 || run.empty()) return run;
  const size_t region = geometry_.RegionOf(run.first);
  const uint64_t stripe = StripePages(region).value();
  const uint64_t into = (run.first - geometry_.pages_of(region).first).value() % stripe;
  return {run.first, std::min(run.count, PageCount(stripe - into))};
}

std::vector<PageRun> ShardMap::Stripes() const {
  std::vector<PageRun> stripes;
  for (size_t region = 0; region < geometry_.region_count(); ++region) {
    PageRun rest = geometry_.pages_of(region);
    while (!rest.empty()) {
      stripes.push_back(InOneShard(rest));
      rest = {stripes.back().end(), rest.count - stripes.back().count};
    }
  }
  return stripes;
}

}  // namespace faultline
