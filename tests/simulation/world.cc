#include "tests/simulation/world.h"

#include <algorithm>
#include <cstdio>

#include "engine/core/simulation_hook.h"

namespace faultline {

void SimulationYield() {
  simulation::World* world = simulation::CurrentHooks().world;
  if (world != nullptr) world->Yield();
}

void SimulationTransition(PageIndex page, uint8_t before, uint8_t after) {
  simulation::LedgerWatcher* watcher = simulation::CurrentHooks().watcher;
  if (watcher != nullptr) watcher->OnTransition(page, before, after);
  SimulationYield();
}

}  // namespace faultline

namespace faultline::simulation {

Hooks& CurrentHooks() {
  thread_local Hooks hooks;
  return hooks;
}

void Law(bool holds, const char* law, uint64_t page) {
  if (!holds) throw Violation(std::string(law) + " (page " + std::to_string(page) + ")");
}

Nanos World::Now() const { return now_; }

PageIndex& World::TracedPage() {
  static PageIndex page(UINT64_MAX);
  return page;
}

void World::PrintTrace(const char* what, uint64_t detail) const {
  std::printf("%10ld ns %*s%s %lx\n", now_.count(), 2 * depth_, "", what, detail);
}

void World::Remove(Actor& actor) { std::erase(actors_, &actor); }

Actor* World::PickRunnable() {
  const size_t count = actors_.size();
  if (count == 0) return nullptr;
  const size_t start = random.Below(count);
  for (size_t i = 0; i < count; ++i) {
    Actor* actor = actors_[(start + i) % count];
    if (!actor->on_stack_ && actor->Runnable()) return actor;
  }
  return nullptr;
}

void World::Run(Actor& actor) {
  struct Scope {
    World& world;
    Actor& actor;
    int engine_depth;
    Scope(World& w, Actor& a) : world(w), actor(a), engine_depth(w.engine_depth_) {
      actor.on_stack_ = true;
      ++world.depth_;
      world.engine_depth_ = actor.BelongsToEngine() ? engine_depth + 1 : 0;
    }
    ~Scope() {
      actor.on_stack_ = false;
      --world.depth_;
      world.engine_depth_ = engine_depth;
    }
  } scope(*this, actor);
  now_ += Nanos(static_cast<int64_t>(random.Between(50, 3000)));
  actor.Step();
}

bool World::RunOne() {
  if (Actor* actor = PickRunnable()) {
    Run(*actor);
    return true;
  }
  Nanos next = Nanos::max();
  for (const Actor* actor : actors_) next = std::min(next, actor->WakesAt());
  if (next == Nanos::max()) return false;
  now_ = std::max(now_ + Nanos(1), next);
  return true;
}

void World::Yield() {
  if (engine_depth_ > 0 && deaths_ < chances_.deaths_max && random.OneIn(chances_.die_one_in)) {
    ++deaths_;
    throw EngineDied{};
  }
  if (depth_ == 0 || depth_ >= kDepthMax) return;
  while (random.OneIn(chances_.preempt_one_in)) {
    Actor* actor = PickRunnable();
    if (actor == nullptr) return;
    Run(*actor);
  }
}

}  // namespace faultline::simulation
