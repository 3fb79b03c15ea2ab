#include "engine/core/push_order.h"

namespace faultline {

SequentialOrder::SequentialOrder(const Geometry& geometry) {
  for (size_t region = 0; region < geometry.region_count(); ++region) {
    const PageRun pages = geometry.pages_of(region);
    const uint64_t run_pages = geometry.RequestableFrom(pages.first, pages.end()).count.value();
    stretches_.push_back({pages, run_pages, run_count_});
    run_count_ += (pages.count.value() + run_pages - 1) / run_pages;
  }
}

PageRun SequentialOrder::Next() {
  const uint64_t run = cursor_.fetch_add(1, std::memory_order_relaxed);
  if (run >= run_count_) return {};
  size_t i = stretches_.size() - 1;
  while (run < stretches_[i].first_run) --i;
  const Stretch& stretch = stretches_[i];
  const uint64_t skipped = (run - stretch.first_run) * stretch.run_pages;
  const uint64_t left = stretch.pages.count.value() - skipped;
  return {stretch.pages.first + PageCount(skipped),
          PageCount(left < stretch.run_pages ? left : stretch.run_pages)};
}

}  // namespace faultline
