// A userfaultfd: the descriptor through which the kernel hands the page faults of a process to
// us, and through which we answer them.
//
// Owns one descriptor. A process in which a fault is pending must never lose its last copy of
// its userfaultfd: the kernel then answers the fault by itself, with zeroes. Whoever attaches to
// a VMM leaves a copy in it for that reason (attach.h).
//
// Threads: the calls are system calls without state of ours; any thread, any number at once.
// Source: userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
#pragma once

#include <cstdint>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "uffd/unique_fd.h"

namespace faultline {

/// What a range is registered for.
enum class UffdMode : uint8_t {
  kInvalid = 0,
  kMissing,          ///< private memory: a page that is not there
  kMissingAndMinor,  ///< shared memory: also a page that is in the page cache and not mapped
};

/// How far an ioctl came, and what stopped it. The kernel's errno is renamed here and nowhere else.
enum class UffdOutcome : uint8_t {
  kDone = 1,       ///< the whole range; whoever waited in it is awake
  kPartial,        ///< some of it, without a reason: go on behind `done`
  kAlreadyMapped,  ///< EEXIST: the page behind `done` is there; its waiter was NOT woken
  kEventUnread,    ///< EAGAIN: an event (REMOVE, …) has to be read first
  kProcessGone,    ///< ESRCH
  kNotRegistered,  ///< ENOENT: no mapping there that is registered, or a border between two
  kNothingThere,   ///< EFAULT: CONTINUE of a page that the page cache does not have
  kNoMemory,       ///< ENOMEM, ENOSPC: the tmpfs, the huge page pool or the host is full
  kPoisoned,       ///< EIO, EHWPOISON: the page is broken
  kInterrupted,    ///< EINTR, and EBUSY: nothing happened, call again
};

struct UffdProgress {
  UffdOutcome outcome;
  ByteCount done;  ///< from the start of the range; the waiters in it are awake
};

class UserfaultFd {
 public:
  /// For this process: the tests' guests, and VMMs that hand their userfaultfd over.
  static Result<UserfaultFd> CreateForThisProcess();
  /// Takes a fresh userfaultfd of any process and agrees on the features with the kernel. That
  /// can be done once for each userfaultfd; the error names what the kernel lacks.
  static Result<UserfaultFd> Adopt(UniqueFd fd);
  /// Takes one whose features an earlier engine has agreed on.
  static UserfaultFd Resume(UniqueFd fd) { return UserfaultFd(std::move(fd)); }

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// UFFDIO_POISON (Linux 6.6) is there.
  [[nodiscard]] static bool KernelCanPoison();

  /// Faults in the range come to us from now on. REQUIRES: page-aligned, mapped.
  [[nodiscard]] Status Register(VmmAddr start, ByteCount length, UffdMode mode) const;
  /// The kernel answers by itself again; wakes whoever waits there.
  [[nodiscard]] Status Unregister(VmmAddr start, ByteCount length) const;
  /// Likewise; false: errno is set and all is as before. Allocates nothing.
  bool TryUnregister(VmmAddr start, ByteCount length) const;

  // The answers. None throws, allocates in this process, or logs. Ranges are whole pages; a
  // range that is not (EINVAL) is our mistake and fails a CHECK.

  /// Maps what the page cache holds.
  [[nodiscard]] UffdProgress Continue(VmmAddr start, ByteCount length) const;
  /// Maps fresh zero pages. Not on hugetlbfs.
  [[nodiscard]] UffdProgress ZeroPage(VmmAddr start, ByteCount length) const;
  /// Maps fresh pages with the bytes at `from`.
  [[nodiscard]] UffdProgress Copy(VmmAddr to, HostAddr from, ByteCount length) const;
  /// Every access from now on is a memory error (SIGBUS, machine check). Linux 6.6.
  [[nodiscard]] UffdProgress Poison(VmmAddr start, ByteCount length) const;
  /// Wakes whoever waits in the range; they fault again if nothing was mapped.
  void Wake(VmmAddr start, ByteCount length) const;

 private:
  explicit UserfaultFd(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace faultline
