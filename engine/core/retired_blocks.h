// Blocks of guest RAM that the kernel has taken over: once all pages of one are there, it needs no
// userfaultfd any more. From then on the kernel maps what the page cache holds by itself, a huge
// page at once or sixteen small ones, which costs a fraction of a CONTINUE for each page.
//
// So the pushers, unless they pause, leave what they land Held (Landing::Defer) and each block is
// retired by whoever completes its last page. Until then a touch of a Held page is a fault that is
// answered here, without the network, and brings its surroundings along.
//
// Why that is safe. A block is retired when no page in it is missing (nothing can land there any
// more, and what was complete is never missing again) and none is touched (nothing that the guest
// must not see lies in the alias, and nothing is left to be emptied). The kernel wakes who waits;
// a CONTINUE that comes later finds nothing registered, wakes, and counts as placed.
//
// Every block that stands alone splits the VMM's mapping, of which a process may have 65,530
// (vm.max_map_count): kIslandsMax bounds how many do.
//
// Source: ioctl_userfaultfd(2), UFFDIO_UNREGISTER; Documentation/admin-guide/mm/userfaultfd.rst.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/ledger.h"
#include "engine/core/page_placer.h"
#include "engine/core/units.h"

namespace faultline {

/// Threads: any. No call allocates, locks or waits.
class RetiredBlocks {
 public:
  static constexpr PageCount kBlockPages{512};  ///< of 4 KiB: what one huge page maps
  static constexpr PageCount kAround{16};       ///< what a fault on a Held page brings
  static constexpr int kIslandsMax = 1024;

  /// All outlive it. REQUIRES: block_pages is a multiple of kAround.
  RetiredBlocks(const Geometry& geometry, const Ledger& ledger, PagePlacer& placer,
                PageCount block_pages = kBlockPages, int islands_max = kIslandsMax);

  /// Pages beside this one may stay Held until their block is retired. Not so in regions of larger
  /// pages, at a region's end where no whole block fits, and while too many blocks stand alone.
  [[nodiscard]] bool Defers(PageIndex page) const;
  /// The kAround pages with this one among them; empty if it belongs to no block, or to one that is
  /// retired: what nobody waits for there is the kernel's to map. (Where the kernel refused, each
  /// is a fault of its own.)
  [[nodiscard]] PageRun Around(PageIndex page) const;
  /// Pages of `run`, of any length, have become complete: retires what is whole now.
  void NoteComplete(PageRun run);

 private:
  struct Block {
    PageRun pages;
    size_t region;
    size_t number;  ///< in retired_
  };
  /// The block with this page.
  [[nodiscard]] std::optional<Block> BlockOf(PageIndex page) const;
  /// Of the two beside it.
  [[nodiscard]] int RetiredNeighbours(const Block& block) const;
  void RetireIfWhole(const Block& block);

  const Geometry& geometry_;
  const Ledger& ledger_;
  PagePlacer& placer_;
  const PageCount block_pages_;
  const int islands_max_;
  std::vector<size_t> first_blocks_;        ///< each region's in retired_, and the end
  std::vector<std::atomic<bool>> retired_;  ///< one for each whole block
  /// Retired blocks with none before them. Two neighbours at the same moment may count as none:
  /// the bound is far from the kernel's.
  std::atomic<int> islands_{0};
};

}  // namespace faultline
