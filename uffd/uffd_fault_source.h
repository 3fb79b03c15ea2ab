// The guest's page faults, out of a userfaultfd.
//
// One read(2) brings up to kBatchMax messages; they leave as page numbers, sorted, each page
// once. The kernel hands out faults before events that are older, so a fault may come in the
// same batch as the REMOVE of its page: FaultBatch has removed pages handled first, and a page
// the guest gives up while another of its threads reads it may read as zero in any order.
//
//   PAGEFAULT  → Fault              (outside the map: counted, ignored)
//   REMOVE     → removed            madvise(MADV_DONTNEED, MADV_REMOVE): the balloon, free page
//   UNMAP      → removed            reporting
//   REMAP      → removed, and `layout_changed()`: QEMU never moves guest RAM
//
// An event blocks the guest thread that caused it until it is read: Read often.
// Source: fs/userfaultfd.c (userfaultfd_ctx_read), userfaultfd(2).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "engine/core/fault_source.h"
#include "engine/core/geometry.h"
#include "uffd/core_follower.h"
#include "uffd/uffd_abi.h"
#include "uffd/userfault_fd.h"

namespace faultline {

class UffdFaultSource final : public FaultSource {
 public:
  static constexpr size_t kBatchMax = 128;

  /// Counters that sum to the messages read. Read from any thread.
  struct Counters {
    std::atomic<uint64_t> faults{0};
    std::atomic<uint64_t> faults_outside{0};  ///< of the map: not ours, left alone
    std::atomic<uint64_t> removes{0};
    std::atomic<uint64_t> unmaps{0};
    std::atomic<uint64_t> remaps{0};
    std::atomic<uint64_t> others{0};
  };

  /// All outlive the source. `pidfd` tells the guest's end (a userfaultfd does not); it stays
  /// the caller's; -1 if there is none (one's own process). `follower`: moves the thread that
  /// reads; nullptr: it stays where it is.
  UffdFaultSource(const UserfaultFd& uffd, const VmmMap& map, int pidfd,
                  CoreFollower* follower = nullptr);

  FaultBatch Read() override;
  void NoteAnswered() override;
  [[nodiscard]] int WaitFd() const override { return uffd_.fd(); }

  [[nodiscard]] const Counters& counters() const { return counters_; }
  /// Guest RAM was moved inside the VMM: what we know of its addresses is wrong.
  [[nodiscard]] bool layout_changed() const { return layout_changed_.load(); }

 private:
  void Take(const uffd_msg& message);
  void TakeFault(const uffd_msg& message);
  void TakeRemoved(uint64_t start, uint64_t end);
  void SortFaults();
  void SortRemoved();
  bool GuestHasEnded();

  const UserfaultFd& uffd_;
  const VmmMap& map_;
  const int pidfd_;
  CoreFollower* const follower_;
  std::array<uffd_msg, kBatchMax> messages_{};
  std::array<Fault, kBatchMax> faults_{};
  size_t fault_count_ = 0;
  std::vector<PageRun> removed_;  ///< its capacity never changes: kBatchMax runs for each region
  Nanos next_end_check_{};
  Counters counters_;
  std::atomic<bool> layout_changed_{false};
};

}  // namespace faultline
