// The simulated machine's time, threads and laws.
//
// Every thread of the engine, the guest, the kernel and the network is an Actor whose Step() the
// world calls, one at a time, in an order drawn from the seed. Preemption is re-entrance: at a
// yield point inside one actor's step the world may run steps of others, so their effects
// interleave as those of real threads would. At any yield point of the engine it may also die.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/units.h"
#include "tests/simulation/random.h"

namespace faultline::simulation {

/// A law was broken. What the test reports, with the seed.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Violation if `holds` is false.
void Law(bool holds, const char* law, uint64_t page);

/// Thrown at a yield point: the engine's process has been killed. Caught at the outermost level.
struct EngineDied {};

class Actor {
 public:
  virtual ~Actor() = default;
  /// Has something to do now.
  [[nodiscard]] virtual bool Runnable() const = 0;
  virtual void Step() = 0;
  /// When a sleeping actor has something to do again at the latest.
  [[nodiscard]] virtual Nanos WakesAt() const { return Nanos::max(); }
  /// Dies with the engine.
  [[nodiscard]] virtual bool BelongsToEngine() const { return false; }

 private:
  friend class World;
  bool on_stack_ = false;
};

struct Chances {
  uint64_t preempt_one_in = 0;  ///< at a yield point; 0: never
  uint64_t die_one_in = 0;      ///< at a yield point of the engine
  uint64_t deaths_max = 0;
};

class World final : public Clock {
 public:
  World(uint64_t seed, Chances chances) : random(seed), chances_(chances) {}

  [[nodiscard]] Nanos Now() const override;

  void Add(Actor& actor) { actors_.push_back(&actor); }
  void Remove(Actor& actor);

  /// One step of some actor that can run, or time passes until one can. False: nobody ever will.
  bool RunOne();
  /// Called by the fakes and by the engine's hooks.
  void Yield();
  void StopKilling() { chances_.die_one_in = 0; }
  [[nodiscard]] uint64_t deaths() const { return deaths_; }

  /// With --seed and --page: prints what happens to that page.
  void Trace(PageIndex page, const char* what, uint64_t detail = 0) const {
    if (page == TracedPage()) PrintTrace(what, detail);
  }
  static PageIndex& TracedPage();

  Random random;

 private:
  void PrintTrace(const char* what, uint64_t detail) const;
  Actor* PickRunnable();
  void Run(Actor& actor);

  static constexpr int kDepthMax = 4;
  std::vector<Actor*> actors_;
  Chances chances_;
  Nanos now_{1000};
  uint64_t deaths_ = 0;
  int depth_ = 0;
  int engine_depth_ = 0;
};

/// What the engine's hooks reach (simulation_hook.h); one migration at a time per thread.
class LedgerWatcher {
 public:
  virtual ~LedgerWatcher() = default;
  virtual void OnTransition(PageIndex page, uint8_t before, uint8_t after) = 0;
};
struct Hooks {
  World* world = nullptr;
  LedgerWatcher* watcher = nullptr;
};
Hooks& CurrentHooks();

}  // namespace faultline::simulation
