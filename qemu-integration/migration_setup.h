// The migration capabilities and parameters that a move needs, and the way back to what they were.
#pragma once

#include <utility>
#include <vector>

#include "engine/core/result.h"
#include "qemu-integration/qmp_client.h"

namespace faultline {

/// What the move needs switched on. The first four must be there, the last is used where known.
inline constexpr const char* kNeededCapabilities[] = {"x-ignore-shared", "events",
                                                      "pause-before-switchover", "return-path"};
inline constexpr const char* kLateBlockActivate = "late-block-activate";

class MigrationSetup {
 public:
  /// Switches on what is needed and off what disturbs; raises max-bandwidth.
  static Result<MigrationSetup> Apply(QmpClient& qmp);
  /// Puts back what Apply found. The migration must be over.
  [[nodiscard]] Status Restore(QmpClient& qmp) const;

 private:
  Json capabilities_;  ///< as QEMU's list, only what Apply changed
  Json parameters_;
};

}  // namespace faultline
