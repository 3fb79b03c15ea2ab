#include "engine/core/push_order.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace faultline {

SequentialOrder::SequentialOrder(const Geometry& geometry) : geometry_(geometry) { AddRegions(); }

void SequentialOrder::AddStretch(PageRun pages, uint64_t run_pages) {
  stretches_.push_back({pages, run_pages, run_count_});
  run_count_ += (pages.count.value() + run_pages - 1) / run_pages;
}

void SequentialOrder::AddRegions() {
  for (size_t region = 0; region < geometry_.region_count(); ++region) {
    const PageRun pages = geometry_.pages_of(region);
    AddStretch(pages, geometry_.RequestableFrom(pages.first, pages.end()).count.value());
  }
}

// The runs of the region's grid that hold `pages`.
PageRun SequentialOrder::WholeRuns(const Stretch& region, PageRun pages) {
  const uint64_t start = (pages.first - region.pages.first).value();
  const uint64_t end = (pages.end() - region.pages.first).value();
  const uint64_t first = start / region.run_pages * region.run_pages;
  const uint64_t last = (end + region.run_pages - 1) / region.run_pages * region.run_pages;
  const uint64_t stop = std::min(last, region.pages.count.value());
  return {region.pages.first + PageCount(first), PageCount(stop - first)};
}

// On the same grid as the whole region, so that no page is in two runs of one grid and short
// extents share a run.
void SequentialOrder::PutFirst(std::span<const PageRun> data) {
  const std::vector<Stretch> regions = std::exchange(stretches_, {});
  run_count_ = 0;
  size_t next = 0;
  for (const Stretch& region : regions) {
    PageRun stretch{region.pages.first, PageCount(0)};
    for (; next < data.size() && data[next].first < region.pages.end(); ++next) {
      const PageRun runs = WholeRuns(region, data[next]);
      if (stretch.end() < runs.first) {
        if (!stretch.empty()) AddStretch(stretch, region.run_pages);
        stretch.first = runs.first;
      }
      stretch.count = runs.end() - stretch.first;
    }
    if (!stretch.empty()) AddStretch(stretch, region.run_pages);
  }
  AddRegions();
}

PageRun SequentialOrder::Next() {
  const uint64_t run = cursor_.fetch_add(1, std::memory_order_relaxed);
  if (run >= run_count_) return {};
  const auto after = std::upper_bound(
      stretches_.begin(), stretches_.end(), run,
      [](uint64_t number, const Stretch& stretch) { return number < stretch.first_run; });
  const Stretch& stretch = *std::prev(after);
  const uint64_t skipped = (run - stretch.first_run) * stretch.run_pages;
  const uint64_t left = stretch.pages.count.value() - skipped;
  return {stretch.pages.first + PageCount(skipped), PageCount(std::min(left, stretch.run_pages))};
}

void LeadingOrder::Put(std::span<const PageRun> runs) {
  for (PageRun rest : runs) {
    while (!rest.empty() && page_count_ < kPagesMax) {
      const PageRun run = geometry_.RequestableFrom(rest.first, rest.end());
      leading_.push_back(run);
      page_count_ += run.count;
      rest = {run.end(), rest.count - run.count};
    }
  }
}

PageRun LeadingOrder::Next() {
  if (IsUrgent()) {
    const size_t next = cursor_.fetch_add(1, std::memory_order_relaxed);
    if (next < leading_.size()) return leading_[next];
  }
  return rest_.Next();
}

}  // namespace faultline
