// The parts of QEMU's migration that both sides share: capabilities and parameters with the way
// back to what they were, the stream's descriptor, and waiting for a status.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/core/result.h"
#include "qemu-integration/qmp_client.h"

namespace faultline {

/// Without these nothing moves; late-block-activate is used where QEMU knows it.
inline constexpr const char* kNeededCapabilities[] = {"x-ignore-shared", "events",
                                                      "pause-before-switchover", "return-path"};

/// QEMU stops the guest when it expects to send the rest (a screen that is drawn on, dirty device
/// memory) in this time. A short limit keeps that out of the blackout; a guest that draws faster
/// than the link carries gets the next one, a second later each.
inline constexpr uint64_t kDowntimeLimitsMs[] = {20, 100, 300, 1000, 2000};
/// Applies to the migration under way, too.
Status AllowDowntime(QmpClient& qmp, uint64_t limit_ms);

class MigrationSetup {
 public:
  /// Switches on what is needed and off what disturbs; raises max-bandwidth. Once: again does
  /// nothing. If it fails, QEMU is as it was.
  Status Apply(QmpClient& qmp);
  /// Puts back what Apply found, if it was called. The migration must be over.
  Status Restore(QmpClient& qmp);
  /// What Apply found is of no more use: Restore does nothing.
  void Forget() { found_.reset(); }

 private:
  struct Settings {
    Json capabilities;
    Json parameters;
  };
  std::optional<Settings> found_;  ///< what Apply changed, as it was
};

/// The URI by which QEMU finds the stream's descriptor.
Result<std::string> PassStream(QmpClient& qmp, int stream_fd);
/// After QEMU refused to take the descriptor.
void DropStream(QmpClient& qmp);

struct MigrationState {
  std::string status;  ///< "" if there never was one
  std::string error;   ///< QEMU's reason, where it gives one

  /// A migration that still holds the guest or the stream.
  [[nodiscard]] bool under_way() const;
};
Result<MigrationState> QueryMigration(QmpClient& qmp, Nanos timeout = kQmpCommandTimeout);

/// Waits until the migration has status `wanted`. Errors: kRefused with QEMU's reason if it ends
/// otherwise, kTimeout.
Status WaitMigrationStatus(QmpClient& qmp, std::string_view wanted, Nanos timeout);

/// query-status: "running", "paused", …
Result<std::string> RunState(QmpClient& qmp);
/// Waits until query-status says `wanted`.
Status WaitRunState(QmpClient& qmp, std::string_view wanted, Nanos timeout);

/// When the latest kept event of that name was sent, µs since the epoch; takes them all out.
std::optional<int64_t> TimeOfEvent(QmpClient& qmp, std::string_view name);

}  // namespace faultline
