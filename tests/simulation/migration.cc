#include "tests/simulation/migration.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/simulation/engine.h"
#include "tests/simulation/guest_threads.h"

namespace faultline::simulation {
namespace {

struct Plan {
  std::vector<RegionShape> shapes;
  Chances chances;
  GuestHabits guest;
  size_t guest_threads = 1;
  NetworkHabits network;
  EngineHabits engine;
  uint64_t zero_percent = 0;
  uint64_t hole_percent = 0;
  uint64_t guest_ends_at = 0;  ///< after how many steps; 0: never
};

std::vector<RegionShape> DrawRegions(Random& random) {
  std::vector<RegionShape> shapes;
  shapes.push_back({"ram0", ByteCount(random.Between(4, 150) * 4096), PageSize(4096)});
  if (random.OneIn(3)) {
    shapes.push_back({"huge0", ByteCount(random.Between(1, 4) << 19), PageSize(1 << 19)});
  }
  if (random.OneIn(3)) {
    shapes.push_back({"dimm1", ByteCount(random.Between(1, 80) * 4096), PageSize(4096)});
  }
  return shapes;
}

Plan DrawPlan(Random random) {
  Plan plan;
  plan.shapes = DrawRegions(random);
  constexpr uint64_t kPreempt[] = {0, 3, 6, 12, 40};
  plan.chances.preempt_one_in = kPreempt[random.Below(5)];
  if (random.OneIn(2)) {
    plan.chances.deaths_max = random.Between(1, 3);
    plan.chances.die_one_in = random.Between(100, 3000);
  }
  plan.guest_threads = random.Between(1, 6);
  plan.guest.operations = random.Between(5, 60);
  plan.guest.write_percent = random.Between(0, 60);
  plan.guest.discard_percent = random.OneIn(3) ? 0 : random.Between(1, 30);
  plan.guest.zap_percent = random.OneIn(2) ? 0 : random.Between(1, 10);
  plan.guest.hot_pages = random.OneIn(2) ? 0 : random.Between(1, 20);
  plan.network.delay_ns_max = random.OneIn(2) ? 5'000 : 200'000;
  plan.network.torn_percent = random.Between(0, 40);
  if (random.OneIn(2)) {
    plan.network.cuts_max = random.Between(1, 5);
    plan.network.cut_one_in = random.Between(3, 60);
  }
  plan.engine.pushers = random.Between(random.OneIn(8) ? 0 : 1, 3);
  plan.engine.urgent_capacity = random.OneIn(3) ? 1 : random.Between(2, 16);
  plan.engine.bulk_capacity = random.Between(1, 8);
  plan.engine.window = ByteCount(random.Between(4, 2048) * 1024);
  plan.engine.window_follows = random.OneIn(3);
  plan.engine.overtakable = !random.OneIn(4);
  if (random.OneIn(4)) plan.engine.bytes_per_second = random.Between(200, 2000) * 1'000'000;
  plan.engine.sweeps_holes = !random.OneIn(4);
  plan.engine.retires_blocks = !random.OneIn(4);
  plan.engine.allocates_ahead = random.OneIn(2);
  plan.engine.early_percent = random.OneIn(2) ? 0 : random.Between(1, 60);
  plan.engine.stale_percent = random.Between(0, 60);
  plan.zero_percent = random.Between(0, 60);
  plan.hole_percent = random.OneIn(2) ? 0 : random.Between(5, 90);
  if (random.OneIn(40)) plan.guest_ends_at = random.Between(10, 500);
  return plan;
}

class Migration {
 public:
  Migration(uint64_t seed, const Plan& plan)
      : plan_(plan),
        geometry_(Geometry::Create(plan.shapes).value()),
        cells_(geometry_.page_count().value()),
        world_(seed, plan.chances),
        source_(world_.random, geometry_, plan.zero_percent, plan.hole_percent),
        memory_(world_, source_.words()),
        network_(world_, geometry_, memory_, source_, plan.network) {
    CurrentHooks() = {&world_, &memory_};
    world_.Add(network_);
    for (size_t i = 0; i < plan.guest_threads; ++i) {
      threads_.push_back(std::make_unique<GuestThread>(world_, geometry_, memory_, plan.guest));
      world_.Add(*threads_.back());
    }
    StartEngine(false);
  }
  ~Migration() { CurrentHooks() = {}; }

  void Run() {
    while (!Finished()) {
      ++steps_;
      if (steps_ == kStepsMax) {
        throw Violation("everybody gets on in bounded time: " + memory_.Describe());
      }
      if (steps_ == plan_.guest_ends_at) memory_.EndGuest();
      try {
        Law(world_.RunOne(), "somebody can always go on", steps_);
      } catch (const EngineDied&) {
        engine_.reset();  // the kernel closes its sockets: nothing of it lands any more
        memory_.ForgetRead();
        StartEngine(true);
      }
    }
    if (memory_.gone()) return;
    const uint64_t missing = engine_->ledger().missing().value();
    Law(plan_.engine.pushers == 0 || missing == 0, "in the end nothing is missing", missing);
    memory_.CheckAll();
  }

  void Report(Outcome& outcome) const {
    outcome.pages = geometry_.page_count().value();
    outcome.steps = steps_;
    outcome.deaths = world_.deaths();
    outcome.cuts = network_.cuts;
    if (engine_ != nullptr) outcome.faults = engine_->fault_counters().count.value();
  }

 private:
  // Far above the largest that ever held (the test prints it).
  static constexpr uint64_t kStepsMax = 20'000;

  void StartEngine(bool after_crash) {
    engine_ = std::make_unique<Engine>(world_, geometry_, memory_, network_, cells_, plan_.engine,
                                       after_crash);
    if (after_crash) engine_->WakeEverybody();
  }

  [[nodiscard]] bool Finished() const {
    if (memory_.gone()) return engine_->gone();
    const auto finished = [](const auto& thread) { return thread->Finished(); };
    if (!std::all_of(threads_.begin(), threads_.end(), finished)) return false;
    if (!engine_->idle()) return false;
    // Without a pusher only what the guest touches ever comes.
    return plan_.engine.pushers == 0 || engine_->ledger().missing().value() == 0;
  }

  const Plan plan_;
  const Geometry geometry_;
  std::vector<Ledger::Cell> cells_;
  World world_;
  SourceRam source_;
  GuestMemory memory_;
  Network network_;
  std::vector<std::unique_ptr<GuestThread>> threads_;
  std::unique_ptr<Engine> engine_;
  uint64_t steps_ = 0;
};

}  // namespace

Outcome RunMigration(uint64_t seed) {
  Outcome outcome;
  const Plan plan = DrawPlan(Random(seed));
  Migration migration(seed ^ 0xF4017, plan);
  try {
    migration.Run();
  } catch (const Violation& violation) {
    outcome.violation = violation.what();
  }
  migration.Report(outcome);
  return outcome;
}

}  // namespace faultline::simulation
