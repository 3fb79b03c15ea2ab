#include "engine/core/ledger.h"

#include <optional>

#include "engine/core/check.h"
#include "engine/core/simulation_hook.h"

namespace faultline {
namespace {

using enum PageState;

constexpr PageState StateOf(uint8_t cell) {
  return static_cast<PageState>(cell & Ledger::kStateBits);
}
constexpr bool Has(uint8_t cell, uint8_t mark) { return (cell & mark) != 0; }
constexpr uint8_t MarksOf(uint8_t cell) {
  return static_cast<uint8_t>(cell & ~unsigned{Ledger::kStateBits});
}
constexpr uint8_t With(uint8_t cell, uint8_t mark) { return static_cast<uint8_t>(cell | mark); }
constexpr uint8_t Without(uint8_t cell, uint8_t mark) {
  return static_cast<uint8_t>(cell & ~unsigned{mark});
}
constexpr uint8_t WithState(uint8_t marks, PageState state) {
  return static_cast<uint8_t>(marks | static_cast<uint8_t>(state));
}

template <class Cells>
auto& CellOf(Cells& cells, PageIndex page) {
  FAULTLINE_CHECK(page.value() < cells.size());
  return cells[page.value()];
}

/// The marks of `cell` after the legal `event`; ledger.h, Apply.
constexpr uint8_t MarksAfter(uint8_t cell, PageEvent event) {
  const uint8_t marks = Without(MarksOf(cell), Ledger::kEarlyMark);
  switch (event) {
    case PageEvent::kClaim:
      return marks;
    case PageEvent::kLand:
    case PageEvent::kFoundEmpty:
      return Without(marks, Ledger::kTouchedMark);
    case PageEvent::kMap:
      return 0;
    case PageEvent::kLaneQuiet:
      return StateOf(cell) == kRequested ? With(marks, Ledger::kTouchedMark)
                                         : Without(marks, Ledger::kTouchedMark);
    case PageEvent::kLandEarly:
      return StateOf(cell) == kRequested ? With(marks, Ledger::kTouchedMark | Ledger::kEarlyMark)
                                         : Without(marks, Ledger::kTouchedMark);
    case PageEvent::kRemove:
      // Only what the guest has never had is emptied. Held and Mapped pages may have been mapped
      // after the event was read, and then hold what the guest has written since. The guest itself
      // frees their memory; should bytes have landed just after it did, it reads what it had.
      if (!Has(cell, Ledger::kTouchedMark) || Has(cell, Ledger::kPlacingMark)) return marks;
      if (IsLanding(StateOf(cell))) return marks;  // emptied when the landing has ended
      return With(marks, Ledger::kPlacingMark);
  }
  return marks;
}

/// Nothing if the event is illegal in this state.
constexpr std::optional<uint8_t> After(uint8_t cell, PageEvent event) {
  if (!IsLegal(StateOf(cell), event)) return std::nullopt;
  return WithState(MarksAfter(cell, event), NextState(StateOf(cell), event));
}

}  // namespace

/// Changes the page's cell to what `next` (cell → optional cell) says, in one compare-and-swap.
template <class Next>
Ledger::Change Ledger::Transition(PageIndex page, Next next) {
  Cell& cell = CellOf(cells_, page);
  uint8_t before = cell.load(std::memory_order_acquire);
  for (;;) {
    Change change;
    change.before = change.after = StateOf(before);
    change.had_waiter = Has(before, Ledger::kWaiterMark);
    change.was_touched = Has(before, Ledger::kTouchedMark);
    const std::optional<uint8_t> after = next(before);
    if (!after) return change;
    change.legal = true;
    change.after = StateOf(*after);
    change.must_empty = !Has(before, Ledger::kPlacingMark) && Has(*after, Ledger::kPlacingMark);
    SimulationYield();
    if (cell.compare_exchange_weak(before, *after, std::memory_order_acq_rel,
                                   std::memory_order_acquire)) {
      if (IsMissing(change.before) && !IsMissing(change.after)) {
        missing_.fetch_sub(1, std::memory_order_acq_rel);
      }
      SimulationTransition(page, before, *after);
      return change;
    }
  }
}

/// Likewise of one page after the other, up to the first that `next` leaves as it is.
template <class Next>
PageRun Ledger::TransitionPrefix(PageRun run, Next next) {
  PageRun changed{run.first, PageCount(0)};
  while (changed.end() < run.end() && Transition(changed.end(), next).legal) {
    changed.count += PageCount(1);
  }
  return changed;
}

Ledger::Ledger(std::span<Cell> cells) : cells_(cells) {
  uint64_t missing = 0;
  for (const Cell& cell : cells_) missing += uint64_t{IsMissing(StateOf(cell.load()))};
  missing_.store(missing);
}

PageState Ledger::State(PageIndex page) const {
  return StateOf(CellOf(cells_, page).load(std::memory_order_acquire));
}

bool Ledger::HasWaiter(PageIndex page) const {
  return Has(CellOf(cells_, page).load(std::memory_order_acquire), kWaiterMark);
}

bool Ledger::IsTouched(PageIndex page) const {
  return Has(CellOf(cells_, page).load(std::memory_order_acquire), kTouchedMark);
}

Ledger::Change Ledger::Apply(PageIndex page, PageEvent event) {
  return Transition(page, [event](uint8_t cell) { return After(cell, event); });
}

Ledger::Change Ledger::ApplyFrom(PageState expected, PageIndex page, PageEvent event) {
  return Transition(page, [expected, event](uint8_t cell) -> std::optional<uint8_t> {
    if (StateOf(cell) != expected) return std::nullopt;
    return After(cell, event);
  });
}

PageRun Ledger::ClaimPrefix(PageRun run, Claim claim) {
  const uint8_t mark = claim == Claim::kOvertakable ? kOvertakableMark : uint8_t{0};
  return TransitionPrefix(run, [mark](uint8_t cell) -> std::optional<uint8_t> {
    if (StateOf(cell) != kAbsent) return std::nullopt;
    return With(*After(cell, PageEvent::kClaim), mark);
  });
}

uint64_t Ledger::BeginLanding(PageRun run) {
  FAULTLINE_CHECK(run.count.value() <= 64);
  const auto begin = [](uint8_t cell) -> std::optional<uint8_t> {
    if (!IsLanding(StateOf(cell)) || !Has(cell, kOvertakableMark)) return std::nullopt;
    return Without(cell, kOvertakableMark);
  };
  uint64_t others = 0;
  for (PageIndex page = run.first; page < run.end(); ++page) {
    if (Transition(page, begin).legal) continue;
    others |= uint64_t{1} << (page - run.first).value();
  }
  return others;
}

void Ledger::AbandonLanding(PageRun run) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const Change change = Transition(page, [](uint8_t cell) -> std::optional<uint8_t> {
      if (!IsLanding(StateOf(cell)) || Has(cell, kOvertakableMark)) return std::nullopt;
      return With(cell, kOvertakableMark | kTouchedMark);
    });
    FAULTLINE_CHECK(change.legal);
  }
}

PageRun Ledger::ClaimEarlyPrefix(PageRun run) {
  return TransitionPrefix(run, [](uint8_t cell) -> std::optional<uint8_t> {
    return Has(cell, kEarlyMark) ? After(cell, PageEvent::kClaim) : std::nullopt;
  });
}

Ledger::Change Ledger::OnFault(PageIndex page, bool may_claim) {
  bool overtakes = false;
  Change change = Transition(page, [&](uint8_t cell) -> std::optional<uint8_t> {
    const bool claims = may_claim && StateOf(cell) == kAbsent;
    overtakes = may_claim && StateOf(cell) == kRequested && Has(cell, kOvertakableMark);
    const uint8_t after = claims ? *After(cell, PageEvent::kClaim) : cell;
    return With(overtakes ? Without(after, kOvertakableMark) : after, kWaiterMark);
  });
  change.overtook = overtakes;
  return change;
}

Ledger::Change Ledger::BeginPlacingHeld(PageIndex page) {
  return Transition(page, [](uint8_t cell) -> std::optional<uint8_t> {
    if (StateOf(cell) != kHeld || Has(cell, kPlacingMark | kWaiterMark)) return std::nullopt;
    return With(cell, kPlacingMark);
  });
}

Ledger::Change Ledger::BeginPlacingAwaited(PageIndex page) {
  return Transition(page, [](uint8_t cell) -> std::optional<uint8_t> {
    if (IsMissing(StateOf(cell)) || !Has(cell, kWaiterMark)) return std::nullopt;
    if (Has(cell, kPlacingMark)) return std::nullopt;
    return Without(With(cell, kPlacingMark), kWaiterMark);
  });
}

void Ledger::StopPlacing(PageIndex page, bool had_waiter) {
  const Change change = Transition(page, [had_waiter](uint8_t cell) -> std::optional<uint8_t> {
    if (!Has(cell, kPlacingMark)) return std::nullopt;
    const uint8_t stopped = Without(cell, kPlacingMark);
    return had_waiter ? With(stopped, kWaiterMark) : stopped;
  });
  FAULTLINE_CHECK(change.legal);
}

void Ledger::NoteEmptied(PageIndex page) {
  const Change change = Transition(page, [](uint8_t cell) -> std::optional<uint8_t> {
    if (!Has(cell, kPlacingMark)) return std::nullopt;
    return Without(cell, kTouchedMark);
  });
  FAULTLINE_CHECK(change.legal);
}

void Ledger::MarkTouched(PageRun run) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    Transition(page, [](uint8_t cell) -> std::optional<uint8_t> {
      if (!IsMissing(StateOf(cell))) return std::nullopt;
      return With(cell, kTouchedMark);
    });
  }
}

void Ledger::RecoverAfterCrash() {
  for (Cell& cell : cells_) {
    const uint8_t before = cell.load();
    // Touched and being placed: it was not emptied yet, so it was not mapped either.
    uint8_t marks = before & kTouchedMark;
    PageState state = StateOf(before);
    if (IsLanding(state)) {
      state = NextState(state, PageEvent::kLaneQuiet);
      marks = With(marks, kTouchedMark);
      if (state == kReleased) missing_.fetch_sub(1);
    }
    cell.store(WithState(marks, state));
  }
}

Ledger::Census Ledger::TakeCensus() const {
  Census census;
  for (const Cell& cell : cells_) {
    ++census.count[cell.load(std::memory_order_relaxed) & kStateBits];
  }
  return census;
}

bool Ledger::IsWhole(PageRun run) const {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const uint8_t cell = CellOf(cells_, page).load(std::memory_order_acquire);
    if (IsMissing(StateOf(cell)) || Has(cell, kTouchedMark)) return false;
  }
  return true;
}

bool Ledger::HasAbsent(PageRun run) const {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    if (State(page) == PageState::kAbsent) return true;
  }
  return false;
}

}  // namespace faultline
