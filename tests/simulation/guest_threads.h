// What runs in the guest: threads that read, write and give up pages, and sleep in page faults.
#pragma once

#include <cstdint>

#include "engine/core/geometry.h"
#include "tests/simulation/guest_memory.h"
#include "tests/simulation/world.h"

namespace faultline::simulation {

struct GuestHabits {
  uint64_t operations = 30;
  uint64_t write_percent = 30;
  uint64_t discard_percent = 10;
  uint64_t zap_percent = 3;
  uint64_t hot_pages = 0;  ///< touch only this many; 0: all
};

class GuestThread final : public Actor, private Sleeper {
 public:
  GuestThread(World& world, const Geometry& geometry, GuestMemory& memory, GuestHabits habits)
      : world_(world), geometry_(geometry), memory_(memory), habits_(habits) {}

  [[nodiscard]] bool Runnable() const override;
  void Step() override;
  [[nodiscard]] bool Finished() const { return stage_ == Stage::kIdle && habits_.operations == 0; }

 private:
  enum class Stage : uint8_t {
    kIdle,
    kTouch,     ///< about to touch page_, perhaps again after a fault
    kPunched,   ///< the file has a hole; madvise comes next
    kRemoving,  ///< in madvise: REMOVE is queued, waits until it is read
    kRemoved,   ///< read; the kernel lets others map again, but has not zapped yet
  };
  void Wake() override { asleep_ = false; }
  void Begin();
  PageRun SomeRun();
  void Touch();

  World& world_;
  const Geometry& geometry_;
  GuestMemory& memory_;
  GuestHabits habits_;
  Stage stage_ = Stage::kIdle;
  bool asleep_ = false;
  bool writes_ = false;
  bool punches_late_ = false;
  bool remove_read_ = false;
  PageIndex page_;
  PageRun run_;
};

}  // namespace faultline::simulation
