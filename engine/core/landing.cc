#include "engine/core/landing.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"

namespace faultline {
namespace {

constexpr PageRun Single(PageIndex page) { return {page, PageCount(1)}; }

/// The longest run from `first` on, up to `end`, whose pages all satisfy `predicate`.
template <class Predicate>
PageRun PrefixWhere(PageIndex first, PageIndex end, Predicate predicate) {
  PageRun prefix{first, PageCount(0)};
  while (prefix.end() < end && predicate(prefix.end())) prefix.count += PageCount(1);
  return prefix;
}

}  // namespace

void Landing::Complete(const Arrival& arrival) {
  FAULTLINE_CHECK(arrival.run.count.value() <= kRunPagesMax);
  const Nanos landed = parts_.clock.Now();
  turned_ = arrival.turned;
  if (arrival.zero) {
    CompleteZero(arrival.run, landed);
    NoteComplete(arrival.run);
  } else {
    CompleteData(arrival.run, landed);
  }
  turned_ = Nanos(0);
}

void Landing::CompleteData(PageRun run, Nanos landed) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    if (parts_.ledger.ApplyFrom(PageState::kRequested, page, PageEvent::kLand).legal) {
      parts_.landing_metrics.data_pages.Add();
      parts_.landing_metrics.data_bytes.Add(parts_.geometry.PageSizeOf(page).bytes());
    } else {
      parts_.placer.Empty(Single(page));
      CompleteDiscarded(page, PageEvent::kLand, landed);
    }
  }
  PlaceHeld(run, landed);
}

void Landing::CompleteZero(PageRun run, Nanos landed) {
  for (PageIndex page = run.first; page < run.end();) {
    // The claim is ours: nobody maps or fetches the pages while their memory goes.
    const PageRun touched = PrefixWhere(
        page, run.end(), [this](PageIndex each) { return parts_.ledger.IsTouched(each); });
    if (!touched.empty()) parts_.placer.Empty(touched);
    page = touched.empty() ? page + PageCount(1) : touched.end();
  }
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const Ledger::Change change =
        parts_.ledger.ApplyFrom(PageState::kRequested, page, PageEvent::kFoundEmpty);
    if (change.legal) {
      parts_.landing_metrics.zero_pages.Add();
      if (change.had_waiter) Settle(page, landed);
    } else {
      CompleteDiscarded(page, PageEvent::kFoundEmpty, landed);
    }
  }
}

// REQUIRES: the page is Discarding and its alias is empty: from here on a fault maps zeroes.
void Landing::CompleteDiscarded(PageIndex page, PageEvent event, Nanos landed) {
  const Ledger::Change change = parts_.ledger.ApplyFrom(PageState::kDiscarding, page, event);
  FAULTLINE_CHECK(change.legal);
  parts_.landing_metrics.discarded_pages.Add();
  if (change.had_waiter) Settle(page, landed);
}

/// Nobody lands in the pages any more, and they are not the guest's.
void Landing::Return(PageRun run, PageEvent event) {
  const Nanos now = parts_.clock.Now();
  bool awaited = false;
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const Ledger::Change change = parts_.ledger.ApplyFrom(PageState::kRequested, page, event);
    if (!change.legal) {
      parts_.placer.Empty(Single(page));
      CompleteDiscarded(page, event, now);
    }
    awaited = awaited || (change.legal && change.had_waiter);
  }
  if (awaited) parts_.waiters.RingForUnasked();
}

void Landing::Remove(PageRun removed) {
  PageRun to_empty;
  for (PageIndex page = removed.first; page < removed.end(); ++page) {
    const Ledger::Change change = parts_.ledger.Apply(page, PageEvent::kRemove);
    parts_.fault_metrics.removed_pages.Add();
    if (change.must_empty) {
      if (to_empty.empty()) to_empty.first = page;
      to_empty.count += PageCount(1);
      continue;
    }
    EmptyRemoved(to_empty);
    to_empty = {};
    if (change.had_waiter) Settle(page, parts_.clock.Now());
  }
  EmptyRemoved(to_empty);
}

// What a broken landing left behind goes, so that the pages read as zero. Nobody maps them
// meanwhile: kRemove took the right to place.
void Landing::EmptyRemoved(PageRun run) {
  if (run.empty()) return;
  parts_.placer.Empty(run);
  for (PageIndex page = run.first; page < run.end(); ++page) {
    parts_.ledger.NoteEmptied(page);
    parts_.ledger.StopPlacing(page, false);
    if (parts_.ledger.HasWaiter(page)) Settle(page, parts_.clock.Now());
  }
}

void Landing::EmptyLeftovers() {
  for (PageIndex page; page < PageIndex(parts_.ledger.page_count().value()); ++page) {
    const bool released = parts_.ledger.State(page) == PageState::kReleased;
    if (released && parts_.ledger.IsTouched(page)) Remove(Single(page));
  }
}

void Landing::SweepHoles(PageRun holes) {
  for (PageIndex page = holes.first; page < holes.end();) {
    const PageRun piece = parts_.geometry.RequestableFrom(page, holes.end());
    const PageRun claimed = parts_.ledger.ClaimPrefix(piece);
    if (!claimed.empty()) CompleteZero(claimed, parts_.clock.Now());
    page = claimed.empty() ? page + PageCount(1) : claimed.end();
  }
  NoteComplete(holes);
}

// First who waits, each alone, then the rest. A page that is marked after the first pass is left to
// whoever marked it.
void Landing::PlaceHeld(PageRun run, Nanos since) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    if (parts_.ledger.HasWaiter(page)) Settle(page, since);
  }
  if (!IsDeferred(run)) MapUnawaited(run, since);
  NoteComplete(run);
}

bool Landing::IsDeferred(PageRun run) const {
  return defers_ && parts_.blocks != nullptr && parts_.blocks->Defers(run.first);
}

void Landing::NoteComplete(PageRun run) {
  if (parts_.blocks != nullptr) parts_.blocks->NoteComplete(run);
}

void Landing::MapAround(PageIndex page, Nanos since) {
  if (parts_.blocks != nullptr) MapUnawaited(parts_.blocks->Around(page), since);
}

// In as few calls as possible.
void Landing::MapUnawaited(PageRun run, Nanos since) {
  for (PageIndex page = run.first; page < run.end();) {
    const PageRun held = PrefixWhere(page, run.end(), [this](PageIndex each) {
      return parts_.ledger.BeginPlacingHeld(each).legal;
    });
    if (!held.empty()) Finish(held, parts_.placer.MapHeld(held), false, since);
    page = held.empty() ? page + PageCount(1) : held.end();
  }
}

void Landing::Settle(PageIndex page, Nanos since) {
  const Ledger::Change begun = parts_.ledger.BeginPlacingAwaited(page);
  if (begun.legal) Finish(Single(page), Map(page, begun), true, since);
}

PlaceResult Landing::Map(PageIndex page, const Ledger::Change& begun) {
  switch (begun.before) {
    case PageState::kHeld:
      return parts_.placer.MapHeld(Single(page));
    case PageState::kMapped:
      return parts_.placer.MapAgain(Single(page));
    case PageState::kHole:
      return parts_.placer.MapZero(Single(page));
    case PageState::kReleased:
      if (begun.was_touched) {
        parts_.placer.Empty(Single(page));
        // Before it is mapped: what the guest writes from then on must never be emptied.
        parts_.ledger.NoteEmptied(page);
      }
      return parts_.placer.MapZero(Single(page));
    case PageState::kAbsent:
    case PageState::kRequested:
    case PageState::kDiscarding:
      break;
  }
  FAULTLINE_CHECK(false && "only complete pages are mapped");
}

void Landing::Finish(PageRun run, PlaceResult result, bool awaited, Nanos since) {
  const bool mapped = result == PlaceResult::kPlaced || result == PlaceResult::kAlreadyPresent;
  for (PageIndex page = run.first; page < run.end(); ++page) {
    if (!mapped) {
      parts_.ledger.StopPlacing(page, awaited);
      continue;
    }
    const bool late_waiter = parts_.ledger.Apply(page, PageEvent::kMap).had_waiter;
    if (late_waiter) parts_.placer.Wake(Single(page));
    if (awaited || late_waiter) NoteAwake(page, since);
  }
  if (result == PlaceResult::kRetry) PutOff(run);
  if (result == PlaceResult::kGone) guest_gone_ = true;
}

void Landing::NoteAwake(PageIndex page, Nanos since) {
  const std::optional<WaiterTable::Times> times = parts_.waiters.Remove(page);
  if (!times) return;
  const Nanos now = parts_.clock.Now();
  parts_.fault_metrics.total.Record(now - times->read);
  parts_.fault_metrics.place.Record(now - since);
  if (times->requested == Nanos(0)) return;
  const Nanos fetch = since - times->requested;
  parts_.fault_metrics.fetch.Record(fetch);
  if (parts_.urgent_trips != nullptr) parts_.urgent_trips->Note(fetch);
  if (turned_ == Nanos(0)) return;
  parts_.fault_metrics.source.Record(turned_);
  parts_.fault_metrics.network.Record(std::max(fetch - turned_, Nanos(0)));
}

void Landing::PutOff(PageRun run) {
  parts_.landing_metrics.place_retries.Add();
  if (retry_count_ < kRetriesMax) {
    retries_[retry_count_++] = run;
  } else {
    parts_.placer.Wake(run);  // who waits faults again; what nobody waits for stays as it is
  }
}

void Landing::Retry() {
  if (retry_count_ == 0) return;
  const auto due = retries_;
  const size_t due_count = std::exchange(retry_count_, 0);
  const Nanos now = parts_.clock.Now();
  for (size_t i = 0; i < due_count; ++i) PlaceHeld(due[i], now);
}

}  // namespace faultline
