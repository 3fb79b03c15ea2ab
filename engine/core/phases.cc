#include "engine/core/phases.h"

namespace faultline {

std::string_view Name(SourcePhase phase) {
  switch (phase) {
    case SourcePhase::kInvalid: return "invalid";
    case SourcePhase::kPreparing: return "preparing";
    case SourcePhase::kSwitching: return "switching";
    case SourcePhase::kCommitted: return "committed";
    case SourcePhase::kServing: return "serving";
    case SourcePhase::kReleased: return "released";
    case SourcePhase::kPaused: return "paused";
    case SourcePhase::kResumed: return "resumed";
  }
  return "unknown";
}

std::string_view Name(DestinationPhase phase) {
  switch (phase) {
    case DestinationPhase::kInvalid: return "invalid";
    case DestinationPhase::kPreparing: return "preparing";
    case DestinationPhase::kLoading: return "loading";
    case DestinationPhase::kLoaded: return "loaded";
    case DestinationPhase::kRunning: return "running";
    case DestinationPhase::kReleased: return "released";
    case DestinationPhase::kPaused: return "paused";
    case DestinationPhase::kFailed: return "failed";
  }
  return "unknown";
}

}  // namespace faultline
