#include "rdma/region_plan.h"

#include <algorithm>
#include <functional>

namespace faultline::rdma {

std::vector<PageRun> CutIntoPieces(const Geometry& geometry, std::span<const PageRun> runs,
                                   ByteCount bytes_max) {
  std::vector<PageRun> pieces;
  for (PageRun rest : runs) {
    const PageIndex base = geometry.pages_of(geometry.RegionOf(rest.first)).first;
    const uint64_t page_bytes = geometry.PageSizeOf(rest.first).bytes();
    const uint64_t pages_max = std::max<uint64_t>(1, bytes_max.value() / page_bytes);
    while (!rest.empty()) {
      const uint64_t in_piece = (rest.first - base).value() % pages_max;
      const PageCount count = std::min(rest.count, PageCount(pages_max - in_piece));
      pieces.push_back({rest.first, count});
      rest = {rest.first + count, rest.count - count};
    }
  }
  return pieces;
}

std::vector<PageRun> ChooseRegions(const Geometry& geometry, std::vector<PageRun> pieces,
                                   const RegionLimits& limits) {
  std::erase_if(pieces, [&](const PageRun& piece) {
    const ByteCount bytes = geometry.BytesOf(piece);
    return bytes < limits.bytes_min || bytes > limits.bytes_max;
  });
  if (pieces.size() <= limits.count_max) return pieces;
  const auto longer = [&](const PageRun& a, const PageRun& b) {
    return geometry.BytesOf(a) > geometry.BytesOf(b);
  };
  std::stable_sort(pieces.begin(), pieces.end(), longer);
  pieces.resize(limits.count_max);
  std::sort(pieces.begin(), pieces.end(),
            [](const PageRun& a, const PageRun& b) { return a.first < b.first; });
  return pieces;
}

ByteCount RegionBytesFor(ByteCount total, ByteCount least, size_t count_max) {
  ByteCount bytes = least;
  while (bytes.value() * count_max / 2 < total.value()) bytes += bytes;
  return bytes;
}

}  // namespace faultline::rdma
