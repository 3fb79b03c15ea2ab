// Afterwards: guest RAM that has arrived in 4 KiB pieces is mapped by huge pages again.
//
// process_madvise(2) with MADV_COLLAPSE (Linux 6.1) does it from outside, one huge page a call. A
// piece whose memory is a huge folio already costs some 50 µs (the page table alone changes), one
// of small pages 3 ms (it is copied), and whoever touches it meanwhile waits. Hence one piece at a
// time, and a pause behind each that leaves the guest most of the time.
//
// Only where the kernel would map huge pages by itself: the operator's settings (huge= of the
// mount, shmem_enabled, the VMM's advice) decide, and MADV_COLLAPSE alone would pass by them.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/core/vm.h"
#include "uffd/guest_ram.h"
#include "uffd/target_process.h"

namespace faultline {

/// What a page-table entry one level up maps on x86-64.
inline constexpr ByteCount kHugePageBytes{uint64_t{2} << 20};

/// Regions that the kernel would map by huge pages (THPeligible of /proc/PID/smaps), by index.
/// Ask while little is mapped: the kernel walks all of it for the answer.
Result<std::vector<size_t>> RegionsForHugePages(const VmDescription& vm);

/// The huge pages between `base` and its end that are worth one: at least 7/8 of each is data.
/// What is not would take memory that the guest may never touch. `data` counts from `base`.
std::vector<VmmAddr> PiecesWorthCollapsing(VmmAddr base, ByteCount length,
                                           std::span<const ByteExtent> data);

struct CollapseReport {
  ByteCount huge;  ///< mapped by huge pages now
  ByteCount left;  ///< worth it, but pinned, out of time, or no huge page was to be had
  Nanos took{};
  Nanos longest{};  ///< of one piece: what a thread that touches it may have waited
};

class HugeCollapse {
 public:
  struct Limits {
    Nanos total_max = std::chrono::seconds(60);
    Nanos pause_min = std::chrono::microseconds(500);
    Nanos pause_max = std::chrono::milliseconds(50);
    int pause_ratio = 3;  ///< the pause is so many times what the piece took
  };

  /// Both outlive it. `regions` of RegionsForHugePages.
  HugeCollapse(const TargetProcess& process, const GuestRam& ram, std::vector<size_t> regions)
      : process_(process), ram_(ram), regions_(std::move(regions)) {}

  /// Returns after limits.total_max and one piece at the latest, or soon after `stop` says so.
  /// Nothing that goes wrong is an error: the guest then has small pages. One thread.
  /// REQUIRES: no userfaultfd is registered, nothing lands any more.
  CollapseReport Run(const Limits& limits, const std::function<bool()>& stop) const;

 private:
  [[nodiscard]] std::vector<VmmAddr> Pieces() const;

  const TargetProcess& process_;
  const GuestRam& ram_;
  const std::vector<size_t> regions_;
};

}  // namespace faultline
