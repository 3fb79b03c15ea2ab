// Keeps the engine's own page tables small. Every page that is touched through an alias leaves an
// entry there, 2 MiB of them for each GiB of 4 KiB pages: as a share of a large guest, more than
// all the rest of the engine. What has been sent or has landed is not touched again soon, so the
// tables go, piece by piece, whenever there are too many. Below 6 GiB of guest nobody even looks,
// and up to some 12 GiB nothing is done; behind that it is what the kernel would otherwise do when
// the engine ends.
//
// Measured: 0.1 µs for each 4 KiB page dropped, and somebody who touches the same piece meanwhile
// waits for it, 0.1 ms. Hence the pauses.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/core/units.h"
#include "uffd/guest_ram.h"

namespace faultline {

/// A thread of its own, for as long as it lives; none for a guest that cannot fill the tables.
class PageTableKeeper {
 public:
  struct Limits {
    ByteCount begin_at{uint64_t{24} << 20};  ///< of page tables (VmPTE): begin to drop
    ByteCount end_at{uint64_t{12} << 20};    ///< enough
    Nanos look_every = std::chrono::milliseconds(50);
  };
  /// Dropped with one call: what a thread that touches it has to wait for.
  static constexpr ByteCount kPieceBytes{uint64_t{4} << 20};

  /// `ram` outlives it and stays where it is.
  PageTableKeeper(const GuestRam& ram, Limits limits);
  explicit PageTableKeeper(const GuestRam& ram) : PageTableKeeper(ram, Limits()) {}
  PageTableKeeper(const PageTableKeeper&) = delete;
  PageTableKeeper& operator=(const PageTableKeeper&) = delete;
  ~PageTableKeeper();

 private:
  [[nodiscard]] bool MayFill() const;
  void Run();
  void DropUntilEnough();
  [[nodiscard]] PageRun PieceAt(PageIndex page) const;
  bool Pause(Nanos duration);

  const GuestRam& ram_;
  const Limits limits_;
  PageIndex next_;  ///< goes round, so that it follows a pusher

  std::mutex mutex_;  ///< guards stopping_
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

/// VmPTE of this process. Nothing known: zero.
ByteCount PageTableBytes();

}  // namespace faultline
