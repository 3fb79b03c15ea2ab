// The hand-over as two state machines, one per side: exactly one guest runs, always.
//
//   source                                      destination
//   Preparing   the guest runs                  Preparing   attach, lanes, memory
//   Switching   STOP, device state moves        Loading     QEMU reads its devices
//      │  any failure: the guest resumes           │  any failure: QEMU is discarded, never cont
//   Committed   Go may have left: never again   Loaded      paused, pager armed, waits for Go
//   Serving     the destination runs            Running     cont was sent
//   Released                                    Released    no page is missing
//   Paused      link lost after Committed       Paused      link lost after Running
//
// The law (DESIGN §6): `cont` is never sent without Go; Go never without Loaded and QEMU's
// `completed`; the source never resumes once Go may have left. The tables prove it below.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace faultline {

enum class SourcePhase : uint8_t {
  kInvalid = 0,
  kPreparing,
  kSwitching,
  kCommitted,
  kServing,
  kReleased,
  kPaused,
  kResumed,  ///< failed before the commit: the guest runs here, as if nothing had happened
};

enum class SourceEvent : uint8_t {
  kStopping,  ///< about to stop the guest
  kCommit,    ///< Loaded arrived, QEMU says completed: Go leaves after this
  kStarted,   ///< the destination runs the guest
  kReleased,  ///< the destination has every page
  kLinkLost,
  kLinkBack,
  kFailure,  ///< anything else that ends the attempt
};

enum class DestinationPhase : uint8_t {
  kInvalid = 0,
  kPreparing,
  kLoading,
  kLoaded,
  kRunning,
  kReleased,
  kPaused,
  kFailed,  ///< before Go: the guest never ran here and never will
};

enum class DestinationEvent : uint8_t {
  kDeviceState,  ///< the first byte of device state
  kLoaded,       ///< QEMU has its devices
  kGo,
  kReleased,
  kLinkLost,
  kLinkBack,
  kAborted,  ///< the source says that its guest runs on there
  kFailure,
};

/// The next phase, or kInvalid where the event is a defect (ours or the peer's).
constexpr SourcePhase Next(SourcePhase phase, SourceEvent event) {
  using P = SourcePhase;
  switch (event) {
    case SourceEvent::kStopping:
      return phase == P::kPreparing ? P::kSwitching : P::kInvalid;
    case SourceEvent::kCommit:
      return phase == P::kSwitching ? P::kCommitted : P::kInvalid;
    case SourceEvent::kStarted:  // may be said again after a lost link
      if (phase == P::kCommitted || phase == P::kServing) return P::kServing;
      return phase == P::kPaused ? P::kPaused : P::kInvalid;
    case SourceEvent::kReleased:
      return phase == P::kServing || phase == P::kPaused ? P::kReleased : P::kInvalid;
    case SourceEvent::kLinkBack:
      return phase == P::kPaused ? P::kServing : P::kInvalid;
    case SourceEvent::kLinkLost:
    case SourceEvent::kFailure:
      if (phase == P::kPreparing || phase == P::kSwitching) return P::kResumed;
      if (phase == P::kCommitted || phase == P::kServing || phase == P::kPaused) return P::kPaused;
      return phase;
  }
  return P::kInvalid;
}

/// The destination's guest may have run.
constexpr bool MayHaveRun(DestinationPhase phase) {
  return phase == DestinationPhase::kRunning || phase == DestinationPhase::kPaused ||
         phase == DestinationPhase::kReleased;
}

constexpr DestinationPhase Next(DestinationPhase phase, DestinationEvent event) {
  using P = DestinationPhase;
  switch (event) {
    case DestinationEvent::kDeviceState:
      return phase == P::kPreparing ? P::kLoading : P::kInvalid;
    case DestinationEvent::kLoaded:
      return phase == P::kLoading ? P::kLoaded : P::kInvalid;
    case DestinationEvent::kGo:
      return phase == P::kLoaded ? P::kRunning : P::kInvalid;
    case DestinationEvent::kReleased:  // with the link lost too: the last page is here
      return phase == P::kRunning || phase == P::kPaused ? P::kReleased : P::kInvalid;
    case DestinationEvent::kLinkBack:
      return phase == P::kPaused ? P::kRunning : P::kInvalid;
    case DestinationEvent::kAborted:
      return MayHaveRun(phase) ? P::kInvalid : P::kFailed;
    case DestinationEvent::kLinkLost:
    case DestinationEvent::kFailure:
      if (phase == P::kPreparing || phase == P::kLoading) return P::kFailed;
      // Loaded: whether Go left is not known here; the guest stays paused until it is.
      if (phase == P::kLoaded) return P::kLoaded;
      if (phase == P::kRunning || phase == P::kPaused) return P::kPaused;
      return phase;
  }
  return P::kInvalid;
}

/// The source's guest may be resumed by the source alone.
constexpr bool MayResume(SourcePhase phase) {
  return phase == SourcePhase::kPreparing || phase == SourcePhase::kSwitching ||
         phase == SourcePhase::kResumed;
}

std::string_view Name(SourcePhase phase);
std::string_view Name(DestinationPhase phase);

namespace internal {
inline constexpr uint8_t kSourcePhases = 8, kSourceEvents = 7;
inline constexpr uint8_t kDestinationPhases = 8, kDestinationEvents = 8;

// Once Go may have left, no event leads back to a guest that runs at the source.
constexpr bool SourceNeverReturns() {
  for (uint8_t p = 1; p < kSourcePhases; ++p) {
    for (uint8_t e = 0; e < kSourceEvents; ++e) {
      const auto next = Next(static_cast<SourcePhase>(p), static_cast<SourceEvent>(e));
      if (!MayResume(static_cast<SourcePhase>(p)) && MayResume(next)) return false;
    }
  }
  return true;
}
static_assert(SourceNeverReturns());

// The guest runs at the destination only by Go, or because it ran there already.
constexpr bool DestinationRunsOnlyByGo() {
  for (uint8_t p = 1; p < kDestinationPhases; ++p) {
    for (uint8_t e = 0; e < kDestinationEvents; ++e) {
      const auto next = Next(static_cast<DestinationPhase>(p), static_cast<DestinationEvent>(e));
      if (MayHaveRun(next) && !MayHaveRun(static_cast<DestinationPhase>(p)) &&
          static_cast<DestinationEvent>(e) != DestinationEvent::kGo) {
        return false;
      }
    }
  }
  return true;
}
static_assert(DestinationRunsOnlyByGo());
}  // namespace internal
}  // namespace faultline
