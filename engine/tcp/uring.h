// Owns one io_uring (io_uring(7), liburing) of one thread.
//
// SINGLE_ISSUER and DEFER_TASKRUN (kernel ≥ 6.1) where the kernel has them: completions are then
// run by the waiting thread itself, inside its one io_uring_enter, instead of interrupting it.
// The ring is made disabled; the first thread that submits enables it and becomes its issuer.
#pragma once

#include <liburing.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "engine/core/result.h"
#include "engine/core/units.h"

namespace faultline {

class Uring {
 public:
  struct Completion {
    uint64_t user_data;
    int result;  ///< as the system call would return it, or -errno
  };

  /// An error where the kernel, a sysctl or a seccomp filter denies io_uring, or where it lacks
  /// what we use (kernel ≥ 5.11): the caller falls back to epoll.
  static Result<std::unique_ptr<Uring>> Create(unsigned entries);
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;
  ~Uring();

  /// A zeroed submission entry; it leaves with the next SubmitAndWait at the latest.
  io_uring_sqe& NextSqe();

  /// Submits what is queued, if anything is, and waits for nothing.
  void Submit();

  /// Submits what is queued and waits until a completion is there or `timeout` has passed (zero:
  /// only looks). One system call. May return early. REQUIRES: always the same thread.
  void SubmitAndWait(Nanos timeout);

  /// As SubmitAndWait, for as long as it takes: no timer is set for it.
  void SubmitAndWait();

  /// A completion is there, or would be after a call. Costs none.
  [[nodiscard]] bool HasNews() const {
    const unsigned flags = std::atomic_ref(*ring_.sq.kflags).load(std::memory_order_acquire);
    return (flags & IORING_SQ_TASKRUN) != 0 ||
           *ring_.cq.khead != io_uring_smp_load_acquire(ring_.cq.ktail);
  }

  /// Calls visit(const Completion&) for every completion that is there. `visit` may queue.
  template <class Visit>
  void ForEachCompletion(Visit visit) {
    // Not io_uring_peek_cqe: it enters the kernel when the queue is empty.
    unsigned head = *ring_.cq.khead;
    while (head != io_uring_smp_load_acquire(ring_.cq.ktail)) {
      const io_uring_cqe& cqe = ring_.cq.cqes[head & ring_.cq.ring_mask];
      const Completion completion{cqe.user_data, cqe.res};
      io_uring_cq_advance(&ring_, 1);
      ++head;
      visit(completion);
    }
  }

  /// The calling thread has submitted on this ring.
  [[nodiscard]] bool IsIssuer() const { return issuer_ == std::this_thread::get_id(); }

 private:
  explicit Uring(const io_uring& ring) : ring_(ring) {}
  void BecomeIssuer();

  io_uring ring_;
  std::thread::id issuer_;  ///< none until the ring is enabled
};

}  // namespace faultline
