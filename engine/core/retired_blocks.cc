#include "engine/core/retired_blocks.h"

#include "engine/core/check.h"

namespace faultline {
namespace {

/// For each region the number of its first block, and the number of all.
std::vector<size_t> FirstBlocks(const Geometry& geometry, PageCount block_pages) {
  std::vector<size_t> first{0};
  for (size_t region = 0; region < geometry.region_count(); ++region) {
    const bool small = geometry.shape(region).page_size == kSmallPageSize;
    const uint64_t pages = small ? geometry.pages_of(region).count.value() : 0;
    first.push_back(first.back() + pages / block_pages.value());
  }
  return first;
}

}  // namespace

RetiredBlocks::RetiredBlocks(const Geometry& geometry, const Ledger& ledger, PagePlacer& placer,
                             PageCount block_pages, int islands_max)
    : geometry_(geometry),
      ledger_(ledger),
      placer_(placer),
      block_pages_(block_pages),
      islands_max_(islands_max),
      first_blocks_(FirstBlocks(geometry, block_pages)),
      retired_(first_blocks_.back()) {
  FAULTLINE_CHECK(block_pages.value() > 0 && block_pages.value() % kAround.value() == 0);
}

bool RetiredBlocks::Defers(PageIndex page) const {
  return BlockOf(page).has_value() && islands_.load(std::memory_order_relaxed) < islands_max_;
}

PageRun RetiredBlocks::Around(PageIndex page) const {
  const std::optional<Block> block = BlockOf(page);
  const bool retired = block && retired_[block->number].load(std::memory_order_relaxed);
  if (!block || retired) return {page, PageCount(0)};
  const uint64_t groups = (page - block->pages.first).value() / kAround.value();
  return {block->pages.first + PageCount(groups * kAround.value()), kAround};
}

void RetiredBlocks::NoteComplete(PageRun run) {
  for (PageIndex page = run.first; page < run.end();) {
    const std::optional<Block> block = BlockOf(page);
    if (block) RetireIfWhole(*block);
    // Behind a page of no block there is none in its region.
    page = block ? block->pages.end() : geometry_.pages_of(geometry_.RegionOf(page)).end();
  }
}

void RetiredBlocks::RetireIfWhole(const Block& block) {
  std::atomic<bool>& retired = retired_[block.number];
  if (retired.load(std::memory_order_relaxed) || !ledger_.IsWhole(block.pages)) return;
  const int neighbours = RetiredNeighbours(block);
  const bool full = islands_.load(std::memory_order_relaxed) >= islands_max_;
  if (full && neighbours == 0) return;
  if (retired.exchange(true, std::memory_order_relaxed)) return;
  islands_.fetch_add(1 - neighbours, std::memory_order_relaxed);
  placer_.Retire(block.pages);
}

int RetiredBlocks::RetiredNeighbours(const Block& block) const {
  const auto is_retired = [this](size_t number) {
    return retired_[number].load(std::memory_order_relaxed);
  };
  const bool before = block.number > first_blocks_[block.region] && is_retired(block.number - 1);
  const bool behind =
      block.number + 1 < first_blocks_[block.region + 1] && is_retired(block.number + 1);
  return int{before} + int{behind};
}

std::optional<RetiredBlocks::Block> RetiredBlocks::BlockOf(PageIndex page) const {
  const size_t region = geometry_.RegionOf(page);
  const PageIndex start = geometry_.pages_of(region).first;
  const uint64_t within = (page - start).value() / block_pages_.value();
  const size_t number = first_blocks_[region] + within;
  if (number >= first_blocks_[region + 1]) return std::nullopt;
  return Block{{start + PageCount(within * block_pages_.value()), block_pages_}, region, number};
}

}  // namespace faultline
