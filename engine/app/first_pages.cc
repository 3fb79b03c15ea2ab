#include "engine/app/first_pages.h"

#include <algorithm>

#include "engine/core/page_runs.h"

namespace faultline {

std::vector<PageRun> RunsOf(std::span<const RamPlace> places, const Geometry& geometry) {
  std::vector<PageIndex> pages;
  pages.reserve(places.size());
  for (const RamPlace& place : places) {
    const uint64_t page_bytes = geometry.shape(place.region).page_size.bytes();
    const PageCount before(place.offset.value() / page_bytes);
    pages.push_back(geometry.pages_of(place.region).first + before);
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());

  std::vector<PageRun> runs;
  for (const PageIndex page : pages) AppendJoined(runs, {page, PageCount(1)}, geometry);
  return runs;
}

}  // namespace faultline
