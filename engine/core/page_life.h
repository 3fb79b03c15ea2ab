// A page's life, as a table that the compiler proves.
//
//   Absent ──claim──► Requested ──land──► Held ──map──► Mapped
//   Absent, Requested ──found empty──► Hole ──map──► Mapped
//   Requested ──remove──► Discarding ──land | found empty | lane quiet | land early──► Released
//   Absent, Held, Mapped, Hole ──remove──► Released
//   Requested ──lane quiet | land early──► Absent
//
// Released pages stay so: a fault there gets a fresh zero page and nothing is ever fetched.
// The destination's ledger (ledger.h) applies these transitions with compare-and-swap, one
// atomic byte per page. Zeroed memory reads as Absent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace faultline {

enum class PageState : uint8_t {
  kAbsent = 0,      ///< the bytes are at the source, nobody has asked
  kRequested = 1,   ///< at most one lane may let bytes land, and they may be landing right now
  kHeld = 2,        ///< complete in the alias; written before CONTINUE, so never fetched again
  kMapped = 3,      ///< in the guest's page tables: nothing may land here any more
  kHole = 4,        ///< known to be zero, alias empty; mapped only if the guest touches it
  kDiscarding = 5,  ///< the guest gave the page up while its bytes were landing
  kReleased = 6,    ///< the guest gave the page up; reads as zero from now on
};
inline constexpr size_t kPageStateCount = 7;

enum class PageEvent : uint8_t {
  kClaim = 0,       ///< one party takes the right to fetch
  kLand = 1,        ///< all bytes of the page are in the alias
  kFoundEmpty = 2,  ///< the source says zero, or its file has a hole here; the alias is empty
  kMap = 3,         ///< CONTINUE or ZEROPAGE succeeded (or the page was already there)
  kRemove = 4,      ///< UFFD_EVENT_REMOVE
  kLaneQuiet = 5,   ///< who might let bytes land is a lane that is dead, and none lands any more
  kLandEarly = 6,   ///< all bytes are in the alias, but the source may change the page yet
};
inline constexpr size_t kPageEventCount = 7;

inline constexpr uint8_t kIllegal = 0xFF;

namespace internal {

using enum PageState;

constexpr uint8_t To(PageState state) { return static_cast<uint8_t>(state); }
inline constexpr uint8_t kNo = kIllegal;

// Rows are states, columns are events: claim, land, found empty, map, remove, lane quiet, land
// early.
inline constexpr std::array<std::array<uint8_t, kPageEventCount>, kPageStateCount> kNextState{{
    /* Absent     */ {To(kRequested), kNo, To(kHole), kNo, To(kReleased), kNo, kNo},
    /* Requested  */ {kNo, To(kHeld), To(kHole), kNo, To(kDiscarding), To(kAbsent), To(kAbsent)},
    /* Held       */ {kNo, kNo, kNo, To(kMapped), To(kReleased), kNo, kNo},
    /* Mapped     */ {kNo, kNo, kNo, To(kMapped), To(kReleased), kNo, kNo},
    /* Hole       */ {kNo, kNo, kNo, To(kMapped), To(kReleased), kNo, kNo},
    /* Discarding */
    {kNo, To(kReleased), To(kReleased), kNo, To(kDiscarding), To(kReleased), To(kReleased)},
    /* Released   */ {kNo, kNo, kNo, To(kReleased), To(kReleased), kNo, kNo},
}};

}  // namespace internal

constexpr bool IsLegal(PageState state, PageEvent event) {
  return internal::kNextState[static_cast<size_t>(state)][static_cast<size_t>(event)] != kIllegal;
}

/// REQUIRES: IsLegal(state, event).
constexpr PageState NextState(PageState state, PageEvent event) {
  return static_cast<PageState>(
      internal::kNextState[static_cast<size_t>(state)][static_cast<size_t>(event)]);
}

/// The migration is not over while a page is missing.
constexpr bool IsMissing(PageState state) {
  return state == PageState::kAbsent || state == PageState::kRequested ||
         state == PageState::kDiscarding;
}

/// Bytes may be landing in the alias: nobody may map, empty or fetch the page.
constexpr bool IsLanding(PageState state) {
  return state == PageState::kRequested || state == PageState::kDiscarding;
}

namespace internal {

constexpr bool HoldsForAll(auto predicate) {
  for (size_t s = 0; s < kPageStateCount; ++s) {
    for (size_t e = 0; e < kPageEventCount; ++e) {
      const auto state = static_cast<PageState>(s);
      const auto event = static_cast<PageEvent>(e);
      if (IsLegal(state, event) && !predicate(state, event, NextState(state, event))) return false;
    }
  }
  return true;
}

// Bytes land only where somebody claimed, and only a claim lets them.
static_assert(HoldsForAll([](PageState from, PageEvent event, PageState to) {
  return to != kRequested || (from == kAbsent && event == PageEvent::kClaim);
}));
// A page that the guest may have touched is never fetched again.
static_assert(HoldsForAll([](PageState from, PageEvent, PageState to) {
  return IsMissing(from) || !IsMissing(to);
}));
// Nothing lands in a page after it is mapped: landing ends before Held, Hole or Released.
static_assert(HoldsForAll([](PageState from, PageEvent event, PageState to) {
  return !IsLanding(from) || IsLanding(to) || event == PageEvent::kLand ||
         event == PageEvent::kFoundEmpty || event == PageEvent::kLaneQuiet ||
         event == PageEvent::kLandEarly;
}));
// Only complete or empty pages are mapped.
static_assert(HoldsForAll([](PageState from, PageEvent event, PageState) {
  return event != PageEvent::kMap ||
         (from == kHeld || from == kHole || from == kMapped || from == kReleased);
}));
// What the guest gave up stays given up, and REMOVE is legal everywhere: it cannot be refused.
static_assert(HoldsForAll([](PageState from, PageEvent, PageState to) {
  return from != kReleased || to == kReleased;
}));
constexpr bool RemoveIsAlwaysLegal() {
  for (size_t s = 0; s < kPageStateCount; ++s) {
    if (!IsLegal(static_cast<PageState>(s), PageEvent::kRemove)) return false;
  }
  return true;
}
static_assert(RemoveIsAlwaysLegal());

}  // namespace internal
}  // namespace faultline
