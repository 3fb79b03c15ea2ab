// What the ledger costs: it is asked several times for every page and every fault.
//
// Items are pages. A ledger of 1 GiB of 4 KiB pages (256 KiB of cells) fits into the second-level
// cache, as it does beside a running migration.
#include <benchmark/benchmark.h>

#include <memory>
#include <span>

#include "engine/core/ledger.h"

namespace faultline {
namespace {

constexpr uint64_t kPages = 1 << 18;

/// A fresh ledger and its storage.
class FreshLedger {
 public:
  FreshLedger() : cells_(new Ledger::Cell[kPages]()), ledger_({cells_.get(), kPages}) {}
  Ledger& ledger() { return ledger_; }

  /// Brings every page to the state that `events` lead to.
  FreshLedger& Advance(std::initializer_list<PageEvent> events) {
    for (uint64_t page = 0; page < kPages; ++page) {
      for (const PageEvent event : events) ledger_.Apply(PageIndex(page), event);
    }
    return *this;
  }

 private:
  std::unique_ptr<Ledger::Cell[]> cells_;
  Ledger ledger_;
};

/// Runs `step(ledger, page)` for pages 0, stride, 2·stride …; a fresh ledger, outside the clock,
/// whenever all pages are used up.
template <class Step>
void ForRuns(benchmark::State& state, uint64_t stride, std::initializer_list<PageEvent> before,
             Step step) {
  auto fresh = std::make_unique<FreshLedger>();
  fresh->Advance(before);
  uint64_t page = 0;
  for (auto _ : state) {
    if (page + stride > kPages) {
      state.PauseTiming();
      fresh = std::make_unique<FreshLedger>();
      fresh->Advance(before);
      page = 0;
      state.ResumeTiming();
    }
    step(fresh->ledger(), PageIndex(page));
    page += stride;
  }
  state.SetItemsProcessed(static_cast<int64_t>(stride) * state.iterations());
}

void ClaimRun(benchmark::State& state) {
  const auto pages = static_cast<uint64_t>(state.range(0));
  ForRuns(state, pages, {}, [pages](Ledger& ledger, PageIndex first) {
    benchmark::DoNotOptimize(ledger.ClaimPrefix({first, PageCount(pages)}));
  });
}
BENCHMARK(ClaimRun)->Arg(1)->Arg(16)->Arg(64);

void LandPage(benchmark::State& state) {
  ForRuns(state, 1, {PageEvent::kClaim}, [](Ledger& ledger, PageIndex page) {
    benchmark::DoNotOptimize(ledger.Apply(page, PageEvent::kLand));
  });
}
BENCHMARK(LandPage);

void BeginPlacingAndMapPage(benchmark::State& state) {
  ForRuns(state, 1, {PageEvent::kClaim, PageEvent::kLand}, [](Ledger& ledger, PageIndex page) {
    benchmark::DoNotOptimize(ledger.BeginPlacingHeld(page));
    benchmark::DoNotOptimize(ledger.Apply(page, PageEvent::kMap));
  });
}
BENCHMARK(BeginPlacingAndMapPage);

/// A page of the pusher's from claim to map, in runs as the lanes have them.
void WholeLifeOfRun(benchmark::State& state) {
  const auto pages = static_cast<uint64_t>(state.range(0));
  ForRuns(state, pages, {}, [pages](Ledger& ledger, PageIndex first) {
    const PageRun run = ledger.ClaimPrefix({first, PageCount(pages)});
    for (PageIndex page = run.first; page < run.end(); ++page) ledger.Apply(page, PageEvent::kLand);
    for (PageIndex page = run.first; page < run.end(); ++page) ledger.BeginPlacingHeld(page);
    for (PageIndex page = run.first; page < run.end(); ++page) ledger.Apply(page, PageEvent::kMap);
  });
}
BENCHMARK(WholeLifeOfRun)->Arg(1)->Arg(16)->Arg(64);

void FaultOnAbsentPage(benchmark::State& state) {
  ForRuns(state, 1, {}, [](Ledger& ledger, PageIndex page) {
    benchmark::DoNotOptimize(ledger.OnFault(page, true));
  });
}
BENCHMARK(FaultOnAbsentPage);

void FaultOnRequestedPage(benchmark::State& state) {
  ForRuns(state, 1, {PageEvent::kClaim}, [](Ledger& ledger, PageIndex page) {
    benchmark::DoNotOptimize(ledger.OnFault(page, true));
  });
}
BENCHMARK(FaultOnRequestedPage);

/// What the pusher pays to pass over pages that the faults have brought already.
void ClaimOfMappedPage(benchmark::State& state) {
  ForRuns(state, 1, {PageEvent::kClaim, PageEvent::kLand, PageEvent::kMap},
          [](Ledger& ledger, PageIndex page) {
            benchmark::DoNotOptimize(ledger.ClaimPrefix({page, PageCount(1)}));
          });
}
BENCHMARK(ClaimOfMappedPage);

void Census(benchmark::State& state) {
  FreshLedger fresh;
  for (auto _ : state) benchmark::DoNotOptimize(fresh.ledger().TakeCensus());
  state.SetItemsProcessed(static_cast<int64_t>(kPages) * state.iterations());
}
BENCHMARK(Census);

}  // namespace
}  // namespace faultline
