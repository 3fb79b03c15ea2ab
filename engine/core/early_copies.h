// Pages that travel before the stop, at the source: those that the guest needs in its first
// instants and hardly ever changes, its kernel's code first of all. Once it is stopped, the
// destination has their bytes and needs to hear no more than that they are still right.
//
//   1 Add             while the guest runs: a copy of each
//   2 ForgetChanged   some time later: what has changed by now will change again
//   3 VisitCopies     what is sent is the copy, not the page: exactly what 4 compares with
//   4 VisitUnchanged  the guest is stopped: the pages that equal their copies, byte for byte
//
// Only pages of 4 KiB: of larger ones a guest's first instants touch a handful.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "engine/core/source_memory.h"

namespace faultline {

/// Threads: one at a time.
class EarlyCopies {
 public:
  static constexpr PageCount kVisitedMax{32};  ///< in one call of VisitCopies

  /// All outlive the copies, which lie in `memory`.
  EarlyCopies(const RamWindow& ram, const PresenceMap& presence, std::span<std::byte> memory)
      : ram_(ram), presence_(presence), memory_(memory) {}

  /// As many of `runs` as `memory` has room for. Left out: pages without memory, and of zeroes,
  /// which cross the wire as a bit. Once.
  void Add(std::span<const PageRun> runs);
  /// Returns them: rising, not overlapping, each within a region.
  std::vector<PageRun> ForgetChanged();
  Status VisitCopies(
      const std::function<Status(PageRun run, std::span<const std::byte> bytes)>& visit) const;
  /// In batches, early and often: until a page is named the destination asks for it.
  Status VisitUnchanged(const std::function<Status(const std::vector<PageRun>&)>& visit) const;

 private:
  struct Copy {
    PageIndex page;
    const std::byte* bytes;
  };
  [[nodiscard]] bool HasChanged(const Copy& copy) const;

  const RamWindow& ram_;
  const PresenceMap& presence_;
  const std::span<std::byte> memory_;
  std::vector<Copy> copies_;
};

}  // namespace faultline
