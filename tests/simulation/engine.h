// One life of the destination's engine: the real loops over the simulated kernel and network.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/core/early_landing.h"
#include "engine/core/fault_loop.h"
#include "engine/core/pusher.h"
#include "engine/core/retired_blocks.h"
#include "tests/simulation/network.h"
#include "tests/simulation/world.h"

namespace faultline::simulation {

struct EngineHabits {
  size_t pushers = 1;
  bool retires_blocks = true;
  size_t urgent_capacity = 8;
  size_t bulk_capacity = 4;
  ByteCount window{512 * 1024};
  bool window_follows = false;  ///< the link, within its bounds, instead
  bool overtakable = true;      ///< by faults: what is in flight
  uint64_t bytes_per_second = 0;
  bool sweeps_holes = true;
  bool allocates_ahead = false;
  uint64_t early_percent = 0;  ///< of small pages: land before the stop
  uint64_t stale_percent = 0;  ///< of those: have changed by then
  uint64_t reconnect_ns_max = 200'000;
};

class Engine {
 public:
  /// All but the habits outlive the engine. `cells`: fresh, or left by an engine that died.
  Engine(World& world, const Geometry& geometry, GuestMemory& memory, Network& network,
         std::span<Ledger::Cell> cells, EngineHabits habits, bool after_crash);
  ~Engine();

  [[nodiscard]] const Ledger& ledger() const { return *ledger_; }
  /// The fault loop has noticed that the guest's process ended. (A pusher that has nothing to map
  /// does not.)
  [[nodiscard]] bool gone() const;
  /// The control thread has nothing left to do.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] const FaultCounters& fault_counters() const;
  /// After a crash: messages that the dead engine had read are not sent again.
  void WakeEverybody();

 private:
  class FaultThread;
  class PushThread;
  class ControlThread;
  [[nodiscard]] RetiredBlocks* blocks() { return blocks_ ? &*blocks_ : nullptr; }

  std::unique_ptr<Ledger> ledger_;
  WaiterTable waiters_;
  std::optional<RetiredBlocks> blocks_;
  SequentialOrder order_;
  BulkWindow window_;
  GuestMemory& memory_;
  const Geometry& geometry_;
  std::unique_ptr<FaultThread> fault_thread_;
  std::vector<std::unique_ptr<PushThread>> push_threads_;
  std::unique_ptr<ControlThread> control_thread_;
};

}  // namespace faultline::simulation
