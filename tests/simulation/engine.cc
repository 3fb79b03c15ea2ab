#include "tests/simulation/engine.h"

#include <algorithm>
#include <utility>

namespace faultline::simulation {
namespace {

/// A fault loop sleeps until something comes of itself or somebody rings: what nobody says is lost.
constexpr Nanos kFaultStepTimeout = Nanos::max();
constexpr Nanos kPushStepTimeout{500'000};
constexpr PageCount kBlockPages{RetiredBlocks::kAround};
constexpr int kIslandsMax = 2;

std::unique_ptr<Ledger> OpenLedger(std::span<Ledger::Cell> cells, bool after_crash) {
  auto ledger = std::make_unique<Ledger>(cells);
  if (after_crash) ledger->RecoverAfterCrash();
  return ledger;
}

/// A thread of the engine: its metrics, its reactor, its lane, and when to dial again.
class EngineThread : public Actor {
 public:
  EngineThread(World& world, Network& network, const EngineHabits& habits, size_t capacity,
               bool overtakable = false)
      : world_(world),
        network_(network),
        habits_(habits),
        capacity_(capacity),
        overtakable_(overtakable),
        reactor_(world, network.memory) {
    DialLater();
    world_.Add(*this);
  }
  ~EngineThread() override { world_.Remove(*this); }

  [[nodiscard]] bool BelongsToEngine() const override { return true; }
  [[nodiscard]] bool Runnable() const override {
    return !gone_ && (reactor_.IsReady() || (!has_lane_ && world_.Now() >= dial_at_));
  }
  [[nodiscard]] Nanos WakesAt() const override {
    if (gone_) return Nanos::max();
    return has_lane_ ? reactor_.sleeps_until() : std::min(dial_at_, reactor_.sleeps_until());
  }
  [[nodiscard]] bool gone() const { return gone_; }
  void Ring() { reactor_.Ring(); }

 protected:
  template <class Loop>
  void StepLoop(Loop& loop, Nanos timeout) {
    if (!has_lane_ && world_.Now() >= dial_at_) {
      auto lane = std::make_unique<Lane>(network_, capacity_, overtakable_);
      reactor_.SetLane(lane.get());
      lane_ = lane.get();
      has_lane_ = true;
      loop.SetLane(std::move(lane));
    }
    const StepResult result = loop.Step(timeout);
    if (result == StepResult::kGuestGone) gone_ = true;
    if (result == StepResult::kLaneLost) {
      Law(!loop.has_lane(), "a lost lane is dropped", 0);
      reactor_.SetLane(nullptr);
      has_lane_ = false;
      DialLater();
    }
  }

  World& world_;
  Network& network_;
  const EngineHabits habits_;
  const size_t capacity_;
  const bool overtakable_;
  SimReactor reactor_;
  FaultMetrics fault_metrics_;
  LandingMetrics landing_metrics_;
  Lane* lane_ = nullptr;
  bool has_lane_ = false;
  bool gone_ = false;

 private:
  void DialLater() {
    dial_at_ = world_.Now() +
               Nanos(static_cast<int64_t>(world_.random.Below(habits_.reconnect_ns_max + 1)));
  }
  Nanos dial_at_{};
};

}  // namespace

class Engine::FaultThread final : public EngineThread {
 public:
  FaultThread(Engine& engine, World& world, Network& network, const EngineHabits& habits)
      : EngineThread(world, network, habits, habits.urgent_capacity),
        memory_(network.memory),
        loop_({engine.geometry_, *engine.ledger_, memory_, engine.waiters_, world, fault_metrics_,
               landing_metrics_, &engine.window_.urgent_trips(), engine.blocks()},
              memory_, reactor_) {}

  void Step() override {
    StepLoop(loop_, kFaultStepTimeout);
    memory_.ReadIsApplied();
    const FaultCounters& faults = fault_metrics_.faults;
    const uint64_t exits = faults.from_urgent.value() + faults.overtook.value() +
                           faults.joined_bulk.value() + faults.already_held.value() +
                           faults.zero.value() + faults.again.value();
    Law(faults.count.value() == exits, "every fault has exactly one exit", faults.count.value());
  }
  [[nodiscard]] const FaultCounters& counters() const { return fault_metrics_.faults; }

 private:
  GuestMemory& memory_;
  FaultLoop loop_;
};

class Engine::PushThread final : public EngineThread {
 public:
  PushThread(Engine& engine, World& world, Network& network, const EngineHabits& habits)
      : EngineThread(world, network, habits, habits.bulk_capacity, habits.overtakable),
        pusher_({engine.geometry_, *engine.ledger_, network.memory, engine.waiters_, world,
                 fault_metrics_, landing_metrics_, nullptr, engine.blocks()},
                engine.order_, reactor_,
                {.window_bytes = habits.window,
                 .bytes_per_second = habits.bytes_per_second,
                 .window = habits.window_follows ? &engine.window_ : nullptr,
                 .overtakable = habits.overtakable}),
        cap_(habits.window_follows ? WindowController::kMost : habits.window) {}

  void Step() override {
    StepLoop(pusher_, kPushStepTimeout);
    if (has_lane_) CheckWindow();
  }

 private:
  void CheckWindow() const {
    const ByteCount in_flight = lane_->InFlight();
    const bool one_run = in_flight <= std::max(kRunBytesMax, ByteCount(kLargestPage));
    Law(in_flight <= cap_ || one_run, "the window caps the bytes in flight", in_flight.value());
  }
  static constexpr uint64_t kLargestPage = uint64_t{512} * 1024;
  Pusher pusher_;
  const ByteCount cap_;
};

/// The control lane's thread: allocates ahead of need and lands what comes early; then, the
/// source's guest stopped, keeps what is still right of that and sweeps the source's final holes.
class Engine::ControlThread final : public EngineThread {
 public:
  ControlThread(Engine& engine, World& world, Network& network, const EngineHabits& habits,
                bool after_crash)
      : EngineThread(world, network, habits, 0),
        after_crash_(after_crash),
        engine_(engine),
        landing_({engine.geometry_, *engine.ledger_, network.memory, engine.waiters_, world,
                  fault_metrics_, landing_metrics_, nullptr, engine.blocks()}),
        early_({engine.geometry_, *engine.ledger_, network.memory, engine.waiters_, world,
                fault_metrics_, landing_metrics_, nullptr, engine.blocks()},
               [this](PageRun run, std::span<const std::byte>) { return WriteEarly(run); }) {}

  [[nodiscard]] bool Runnable() const override { return !gone() && (!done() || has_retries()); }
  [[nodiscard]] Nanos WakesAt() const override { return Nanos::max(); }

  void Step() override {
    landing_.Retry();
    early_.Retry();
    if (after_crash_) {
      after_crash_ = false;
      landing_.EmptyLeftovers();
      next_early_ = next_kept_ = Pages();  // another life has had the source's words
      return;
    }
    if (allocations_ < 8 && habits_.allocates_ahead) {
      ++allocations_;
      Allocate();
    } else if (next_early_ < Pages()) {
      LandEarly();
    } else if (next_kept_ < Pages()) {
      KeepEarly();
    } else if (next_hole_ < network_.source.holes().size()) {
      landing_.SweepHoles(network_.source.holes()[next_hole_++]);
    }
    gone_ = gone_ || landing_.guest_gone() || early_.guest_gone();
  }

  [[nodiscard]] bool done() const {
    if (after_crash_) return false;
    const bool allocated = allocations_ == 8 || !habits_.allocates_ahead;
    if (next_kept_ < Pages()) return false;
    return allocated && (!habits_.sweeps_holes || next_hole_ == network_.source.holes().size());
  }

 private:
  static constexpr Word kStale = 0x5A1E'0000'0000'0000;
  static constexpr size_t kEarlyPagesMax = 8;

  [[nodiscard]] bool has_retries() const { return landing_.has_retries() || early_.has_retries(); }
  [[nodiscard]] PageIndex Pages() const {
    return PageIndex(engine_.geometry_.page_count().value());
  }
  /// A page of the source as it was before the stop; the draw makes some of them change later.
  void LandEarly() {
    const PageIndex first = next_early_;
    const uint64_t length = world_.random.Between(1, kEarlyPagesMax);
    PageRun run = engine_.geometry_.RequestableFrom(first, Pages());
    run.count = std::min(run.count, PageCount(length));
    next_early_ = run.end();
    const ByteCount bytes = engine_.geometry_.BytesOf(run);
    const bool small = engine_.geometry_.PageSizeOf(first).bytes() == 4096;
    if (!small || !world_.random.Percent(habits_.early_percent)) return;
    stale_ = world_.random.Percent(habits_.stale_percent);
    early_.Land(run, std::vector<std::byte>(bytes.value()));
  }
  bool WriteEarly(PageRun run) {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      const Word final_word = network_.source.words()[page.value()];
      const bool right = !stale_ && final_word != 0;
      network_.memory.Land(page, right ? final_word : kStale);
      early_pages_.push_back(page);
      if (right) unchanged_.push_back(page);
      world_.Yield();
    }
    return true;
  }
  /// What the source vouches for: also what never landed, as a lying one would.
  void KeepEarly() {
    const PageIndex page = next_kept_;
    ++next_kept_;
    const bool landed = std::binary_search(early_pages_.begin(), early_pages_.end(), page);
    const bool unchanged = std::binary_search(unchanged_.begin(), unchanged_.end(), page);
    if (unchanged || !landed) early_.Keep({page, PageCount(1)});
  }
  void Allocate() {
    const uint64_t pages = engine_.geometry_.page_count().value();
    const PageIndex first(world_.random.Below(pages));
    const PageRun run = engine_.geometry_.RequestableFrom(first, PageIndex(pages));
    engine_.ledger_->MarkTouched(run);
    for (PageIndex page = run.first; page < run.end(); ++page) {
      network_.memory.Allocate(page);
      world_.Yield();
    }
  }

  bool after_crash_;
  Engine& engine_;
  Landing landing_;
  size_t next_hole_ = 0;
  int allocations_ = 0;
  EarlyLanding early_;
  PageIndex next_early_;
  PageIndex next_kept_;
  bool stale_ = false;
  std::vector<PageIndex> early_pages_;  ///< that have landed early, rising
  std::vector<PageIndex> unchanged_;    ///< of those: are still as they were, rising
};

Engine::Engine(World& world, const Geometry& geometry, GuestMemory& memory, Network& network,
               std::span<Ledger::Cell> cells, EngineHabits habits, bool after_crash)
    : ledger_(OpenLedger(cells, after_crash)),
      order_(geometry),
      window_(static_cast<uint32_t>(std::max<size_t>(habits.pushers, 1))),
      memory_(memory),
      geometry_(geometry) {
  if (habits.retires_blocks) {
    blocks_.emplace(geometry, *ledger_, memory, kBlockPages, kIslandsMax);
  }
  memory.SetLedger(ledger_.get());
  network.SetLedger(ledger_.get());
  fault_thread_ = std::make_unique<FaultThread>(*this, world, network, habits);
  waiters_.OnUnasked([this] { fault_thread_->Ring(); });
  for (size_t i = 0; i < habits.pushers; ++i) {
    push_threads_.push_back(std::make_unique<PushThread>(*this, world, network, habits));
  }
  control_thread_ = std::make_unique<ControlThread>(*this, world, network, habits, after_crash);
}

Engine::~Engine() = default;

bool Engine::gone() const { return fault_thread_->gone(); }

bool Engine::idle() const { return control_thread_->done(); }

const FaultCounters& Engine::fault_counters() const { return fault_thread_->counters(); }

void Engine::WakeEverybody() {
  for (size_t i = 0; i < geometry_.region_count(); ++i) memory_.Wake(geometry_.pages_of(i));
}

}  // namespace faultline::simulation
