// Small hand-driven stand-ins for what the loops talk to, for the tests of one class at a time.
// Whole migrations run in tests/simulation.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/fault_source.h"
#include "engine/core/landing.h"
#include "engine/core/page_channel.h"
#include "engine/core/page_placer.h"
#include "engine/core/reactor.h"

namespace faultline::test {

inline PageRun Pages(uint64_t first, uint64_t count) {
  return {PageIndex(first), PageCount(count)};
}

class ManualClock final : public Clock {
 public:
  [[nodiscard]] Nanos Now() const override { return now; }
  Nanos now{1000};
};

/// Writes down every call ("held 3+2") and answers what it is told to.
class RecordingPlacer final : public PagePlacer {
 public:
  PlaceResult MapHeld(PageRun run) override { return Answer("held", run); }
  PlaceResult MapZero(PageRun run) override { return Answer("zero", run); }
  PlaceResult MapAgain(PageRun run) override { return Answer("again", run); }
  void Empty(PageRun run) override { Answer("empty", run); }
  void Wake(PageRun run) override { Answer("wake", run); }
  void Retire(PageRun run) override { Answer("retire", run); }

  std::vector<std::string> calls;
  PlaceResult result = PlaceResult::kPlaced;
  std::function<void()> on_call = [] {};

 private:
  PlaceResult Answer(const char* what, PageRun run) {
    calls.push_back(std::string(what) + " " + std::to_string(run.first.value()) + "+" +
                    std::to_string(run.count.value()));
    on_call();
    return result;
  }
};

/// What a lane was asked, and what it is to bring; outlives the lane itself.
struct LaneScript {
  size_t room = 4;
  std::vector<PageRun> posted;
  std::vector<size_t> sent_at;  ///< how many were posted when they had to leave at once
  std::deque<Arrival> arrivals;
  std::vector<PageRun> unanswered;
  bool broken = false;
  bool closed = false;
};

class ScriptedLane final : public PageChannel {
 public:
  explicit ScriptedLane(LaneScript& script) : script_(script) {}
  [[nodiscard]] size_t Room() const override { return script_.room; }
  void Post(PageRun run) override {
    --script_.room;
    script_.posted.push_back(run);
  }
  void SendNow() override { script_.sent_at.push_back(script_.posted.size()); }
  size_t Reap(std::span<Arrival> out) override {
    size_t count = 0;
    while (count < out.size() && !script_.arrivals.empty()) {
      out[count++] = script_.arrivals.front();
      script_.arrivals.pop_front();
    }
    script_.room += count;
    return count;
  }
  [[nodiscard]] LaneHealth Health() const override {
    return script_.broken ? LaneHealth::kBroken : LaneHealth::kOpen;
  }
  void Close() override { script_.closed = true; }
  [[nodiscard]] std::span<const PageRun> Unanswered() const override { return script_.unanswered; }
  [[nodiscard]] ByteCount WireBytes() const override { return ByteCount(10); }

 private:
  LaneScript& script_;
};

class ScriptedReactor final : public Reactor {
 public:
  void Watch(int, ReadyToken) override {}
  void Unwatch(ReadyToken) override {}
  ReadySet Wait(Nanos timeout) override {
    last_timeout = timeout;
    return ready;
  }
  ReadySet ready;
  Nanos last_timeout{-1};
};

class ScriptedFaults final : public FaultSource {
 public:
  FaultBatch Read() override {
    ++reads;
    faults_read_ = std::exchange(faults, {});
    removed_read_ = std::exchange(removed, {});
    return {removed_read_, faults_read_, more, gone};
  }
  [[nodiscard]] int WaitFd() const override { return 0; }

  std::vector<Fault> faults;
  std::vector<PageRun> removed;
  bool more = false;
  bool gone = false;
  int reads = 0;

 private:
  std::vector<Fault> faults_read_;
  std::vector<PageRun> removed_read_;
};

/// Everything a Landing needs, over `pages` pages of 4 KiB and one huge page behind them.
struct Bench {
  explicit Bench(uint64_t pages = 256)
      : geometry(Geometry::Create({{"ram0", ByteCount(pages * 4096), PageSize(4096)},
                                   {"huge0", ByteCount(1 << 21), PageSize(1 << 21)}})
                     .value()),
        cells(pages + 1),
        ledger(cells) {}

  Landing::Parts Parts() {
    return {geometry, ledger, placer, *waiters, clock, fault_metrics, landing_metrics};
  }

  Geometry geometry;
  std::vector<Ledger::Cell> cells;
  Ledger ledger;
  RecordingPlacer placer;
  std::unique_ptr<WaiterTable> waiters = std::make_unique<WaiterTable>();
  ManualClock clock;
  FaultMetrics fault_metrics;
  LandingMetrics landing_metrics;
};

}  // namespace faultline::test
