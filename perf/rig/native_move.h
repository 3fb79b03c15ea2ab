// A native guest's memory moves through the real engine: DestinationPages in this process, lane
// keepers and page servers in another one, TCP over loopback between them.
#pragma once

#include <functional>
#include <memory>

#include "engine/app/destination_pages.h"
#include "engine/app/lane_acceptor.h"
#include "perf/rig/native_guest.h"

namespace faultline::rig {

struct MovePlan {
  GuestPlan guest;
  uint32_t shards = 1;
  uint32_t bulk_streams = 2;          ///< 0: the pusher stays idle
  std::optional<ByteCount> window{};  ///< none: as the engine chooses
  IoPreference io = IoPreference::kBest;
  /// How often the rig looks whether it is over. Each takes 15 µs of a processor from what is
  /// measured, and from a fault that is on its way there.
  Nanos look_every = std::chrono::milliseconds(2);
  bool one_process = false;        ///< the source's threads run in the caller's process
  std::function<void()> before{};  ///< all threads have their lanes, nothing has moved
  std::function<void()> after{};   ///< the guest has touched all that it was to touch
};

struct MoveResult {
  std::vector<uint32_t> latencies;  ///< of the guest's touches, ns
  SummaryJson summary;
  Nanos total{};  ///< lanes opened → every page there (with a pusher), or all touches done
  uint64_t wrong = 0;
  ProcessCost source;
  ProcessCost destination;
};

/// The source's RAM, the same for every move: one region's worth of filled pages.
class SourceRam {
 public:
  /// `huge`: as GuestPlan::huge.
  SourceRam(uint64_t guest_bytes, bool huge);
  [[nodiscard]] int file() const { return file_.get(); }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  /// Reads all of it: a hypervisor takes back what nobody has touched for long (warm_memory.h).
  void Warm() const;

 private:
  uint64_t bytes_;
  UniqueFd file_;
};

/// Moves one guest. REQUIRES: the caller has one thread; root.
MoveResult MoveNativeGuest(const SourceRam& ram, const MovePlan& plan);

}  // namespace faultline::rig
