// QEMU as the engine's VMM: the hand-over of DESIGN §2 on QMP.
//
//   source                                destination
//   SetUp             capabilities        SetUp             capabilities
//   StartDeviceState  migrate fd:         StartDeviceState  stop, migrate-incoming fd:
//   WaitStopped       STOP, pre-switchover
//   ContinueDeviceState  migrate-continue
//   WaitCompleted     completed           WaitLoaded        completed, paused
//   Resume / Quit                         Run, Announce
//
// The stream is a socket end that the engine passes in (getfd), so nobody needs permission for
// a path. Close your own copy once StartDeviceState has returned: only then does the other side
// of the stream see QEMU end. x-ignore-shared keeps guest RAM out of it; return-path makes
// `completed` mean that the destination has loaded. Tried on QEMU 7.2.22 and 10.0.2.
//
// Threads: one per object. Every call is bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/vm.h"
#include "qemu-integration/check.h"
#include "qemu-integration/migration_setup.h"
#include "qemu-integration/qemu_inspect.h"
#include "qemu-integration/qmp_client.h"

namespace faultline {

class QemuSource final : public SourceVm {
 public:
  /// Connects, inspects and checks; the first refusal is the error. Changes nothing in QEMU.
  static Result<std::unique_ptr<QemuSource>> Attach(const QemuTarget& target);

  [[nodiscard]] const VmDescription& description() const override { return description_; }
  FirstPlaces LookForFirstPlaces(const ReadRam& read) override;
  Status SetUp() override { return setup_.Apply(*qmp_); }
  Status Restore() override { return setup_.Restore(*qmp_); }
  Status StartDeviceState(int stream_fd) override;
  Status WaitStopped(Nanos timeout) override;
  Status ContinueDeviceState() override;
  Status WaitCompleted(Nanos timeout) override;
  Status Resume() override;
  Status Quit() override;

  /// When QEMU stopped the guest: its own clock, µs since the epoch. Nothing before WaitStopped.
  [[nodiscard]] std::optional<int64_t> StoppedAt() const { return stopped_at_; }
  [[nodiscard]] const std::vector<Finding>& findings() const { return findings_; }
  [[nodiscard]] const QemuFacts& facts() const { return facts_; }
  [[nodiscard]] QmpClient& qmp() { return *qmp_; }

 private:
  QemuSource(std::unique_ptr<QmpClient> qmp, QemuFacts facts, std::vector<Finding> findings);

  Status AllowMoreDowntime();
  Status TryResume();
  Status EndMigration();
  Status RunAgain();

  std::unique_ptr<QmpClient> qmp_;
  QemuFacts facts_;
  std::vector<Finding> findings_;
  VmDescription description_;
  MigrationSetup setup_;  ///< what Restore and Resume put back
  std::optional<int64_t> stopped_at_;
  size_t limit_ = 0;        ///< of kDowntimeLimitsMs, the one that holds
  Nanos next_limit_at_{0};  ///< when the next one will
};

class QemuDestination final : public DestinationVm {
 public:
  /// As QemuSource::Attach.
  static Result<std::unique_ptr<QemuDestination>> Attach(const QemuTarget& target);

  [[nodiscard]] const VmDescription& description() const override { return description_; }
  Status SetUp() override { return setup_.Apply(*qmp_); }
  Status Restore() override { return setup_.Restore(*qmp_); }
  Status StartDeviceState(int stream_fd) override;
  Status WaitLoaded(Nanos timeout) override;
  Status Run() override;
  Status Announce() override;

  /// When QEMU let the guest run: its own clock, µs since the epoch. Nothing before Run.
  [[nodiscard]] std::optional<int64_t> RunningAt() const { return running_at_; }
  [[nodiscard]] const std::vector<Finding>& findings() const { return findings_; }
  [[nodiscard]] const QemuFacts& facts() const { return facts_; }
  /// For the userfaultfd's hand-in (getfd) while the engine attaches.
  [[nodiscard]] QmpClient& qmp() { return *qmp_; }

 private:
  QemuDestination(std::unique_ptr<QmpClient> qmp, QemuFacts facts, std::vector<Finding> findings);

  Status LoadFailed(const Error& error);

  std::unique_ptr<QmpClient> qmp_;
  QemuFacts facts_;
  std::vector<Finding> findings_;
  VmDescription description_;
  MigrationSetup setup_;  ///< what Restore puts back
  std::optional<int64_t> running_at_;
};

}  // namespace faultline
