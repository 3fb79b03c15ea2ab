// Mapping pages of shared guest RAM: the bytes are in the page cache already, CONTINUE maps them.
//
// What the kernel says, and what it means here (ioctl_userfaultfd(2), EVIDENCE in ARCHITECTURE):
//   EEXIST  mapped before; somebody may sleep on it all the same: wake, go on behind it
//   EAGAIN  an event is unread                         → kRetry
//   ESRCH   the process has ended                      → kGone
//   ENOENT  a border between two mappings: page by page; still ENOENT: not registered any more,
//           so nobody can wait there                   → as if mapped
//   EFAULT  CONTINUE of a hole: the balloon has punched the page and its REMOVE is on its way
//                                                      → zero page
//   ENOMEM  the file system is full                    → kRetry, and counted
// Every loop moves on by at least one page or ends.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/core/geometry.h"
#include "engine/core/page_placer.h"
#include "uffd/guest_ram.h"
#include "uffd/userfault_fd.h"

namespace faultline {

class UffdPlacer final : public PagePlacer {
 public:
  /// How often something other than plain success happened. Read from any thread.
  struct Counters {
    std::atomic<uint64_t> already_mapped{0};
    std::atomic<uint64_t> events_unread{0};
    std::atomic<uint64_t> punched{0};  ///< held pages that the guest discarded meanwhile
    std::atomic<uint64_t> not_registered{0};
    std::atomic<uint64_t> no_memory{0};
    std::atomic<uint64_t> poisoned{0};
  };

  /// All three outlive the placer. `uffd` is the one that the pages are registered with: a wake
  /// reaches only the waiters of its own userfaultfd.
  UffdPlacer(const UserfaultFd& uffd, const VmmMap& vmm, const GuestRam& ram)
      : uffd_(uffd), vmm_(vmm), ram_(ram) {}

  PlaceResult MapHeld(PageRun run) override;
  PlaceResult MapZero(PageRun run) override;
  PlaceResult MapAgain(PageRun run) override;
  void Empty(PageRun run) override;
  void Wake(PageRun run) override;
  void Retire(PageRun run) override;

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  enum class Way : uint8_t { kContinue = 1, kZero };
  PlaceResult Map(PageRun run, Way way);
  PlaceResult MapOnePage(PageIndex page, Way way, UffdOutcome outcome);
  [[nodiscard]] UffdProgress Try(PageRun run, Way way) const;
  [[nodiscard]] UffdProgress ZeroFirstHugePage(PageRun run) const;
  PlaceResult CannotMap(PageIndex page, UffdOutcome outcome);

  const UserfaultFd& uffd_;
  const VmmMap& vmm_;
  const GuestRam& ram_;
  Counters counters_;
};

}  // namespace faultline
