// The source's half of qemu_vm.h.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>
#include <utility>

#include "qemu-integration/first_places.h"
#include "qemu-integration/qemu_vm.h"

namespace faultline {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kResumeAttempts = 5;
constexpr Nanos kResumePause = milliseconds(100);
constexpr Nanos kCancelTimeout = seconds(10);
constexpr Nanos kRunTimeout = seconds(5);
constexpr Nanos kQuitTimeout = seconds(20);
/// With one downtime limit, before the next.
constexpr Nanos kPatience = seconds(1);
/// A wait that is over already still looks once.
constexpr Nanos kShortest = milliseconds(1);
constexpr Nanos kPollInterval = milliseconds(5);

Nanos Now() { return std::chrono::steady_clock::now().time_since_epoch(); }

/// What migrate-continue leaves.
Json PreSwitchover() { return {{"state", "pre-switchover"}}; }

}  // namespace

QemuSource::QemuSource(std::unique_ptr<QmpClient> qmp, QemuFacts facts,
                       std::vector<Finding> findings)
    : qmp_(std::move(qmp)),
      facts_(std::move(facts)),
      findings_(std::move(findings)),
      description_(Describe(facts_)) {}

Result<std::unique_ptr<QemuSource>> QemuSource::Attach(const QemuTarget& target) {
  FAULTLINE_ASSIGN(auto qmp, QmpClient::Connect(target.qmp_path));
  FAULTLINE_ASSIGN(QemuFacts facts, InspectQemu(*qmp, target.pid));
  std::vector<Finding> findings = CheckQemu(facts, VmRole::kSource);
  FAULTLINE_TRY(FirstRefusal(findings));
  return std::unique_ptr<QemuSource>(
      new QemuSource(std::move(qmp), std::move(facts), std::move(findings)));
}

FirstPlaces QemuSource::LookForFirstPlaces(const ReadRam& read) {
  const Result<std::string> registers = qmp_->Human("info registers -a");
  if (!registers) return {};
  const GuestLayout layout = GuestLayout::Parse(facts_.address_space, description_.regions);
  return FindFirstPlaces(ParseRegisters(*registers), layout, read);
}

Status QemuSource::StartDeviceState(int stream_fd) {
  FAULTLINE_TRY(SetUp());
  qmp_->ForgetEvents();
  stopped_at_.reset();
  limit_ = 0;
  next_limit_at_ = Now() + kPatience;
  FAULTLINE_ASSIGN(const std::string uri, PassStream(*qmp_, stream_fd));
  const auto started = qmp_->Execute("migrate", {{"uri", uri}});
  if (started) return {};
  DropStream(*qmp_);
  return tl::unexpected(started.error());
}

Status QemuSource::WaitStopped(Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  while (true) {
    FAULTLINE_TRY(qmp_->Prepare("migrate-continue", PreSwitchover()));
    const Nanos slice = std::min(deadline, next_limit_at_) - Now();
    const Status stopped = WaitMigrationStatus(*qmp_, "pre-switchover", std::max(slice, kShortest));
    if (stopped) break;
    if (stopped.error().kind != ErrorKind::kTimeout || Now() >= deadline) return stopped;
    FAULTLINE_TRY(AllowMoreDowntime());
  }
  // QEMU sends STOP before it waits in pre-switchover (migration_completion).
  if (const auto time = TimeOfEvent(*qmp_, "STOP")) stopped_at_ = time;
  return {};
}

Status QemuSource::AllowMoreDowntime() {
  if (limit_ + 1 == std::size(kDowntimeLimitsMs)) {
    next_limit_at_ = Nanos::max();
    return {};
  }
  next_limit_at_ = Now() + kPatience;
  return AllowDowntime(*qmp_, kDowntimeLimitsMs[++limit_]);
}

Status QemuSource::ContinueDeviceState() {
  FAULTLINE_TRY(qmp_->Execute("migrate-continue", PreSwitchover()));
  return {};
}

Status QemuSource::WaitCompleted(Nanos timeout) {
  return WaitMigrationStatus(*qmp_, "completed", timeout);
}

Status QemuSource::Resume() {
  Status resumed;
  for (int attempt = 0; attempt < kResumeAttempts; ++attempt) {
    resumed = TryResume();
    if (resumed) return {};
    std::this_thread::sleep_for(kResumePause);
  }
  return Fail(resumed.error().kind,
              fmt::format("cannot run the guest of QEMU {} again: {} — connect to {} and say "
                          "`migrate_cancel`, `cont`",
                          facts_.pid, resumed.error().message, qmp_->path()));
}

Status QemuSource::TryResume() {
  if (qmp_->broken()) {
    FAULTLINE_ASSIGN(qmp_, QmpClient::Connect(qmp_->path()));
  }
  FAULTLINE_TRY(EndMigration());
  FAULTLINE_TRY(RunAgain());
  return Restore();
}

Status QemuSource::EndMigration() {
  const Nanos deadline = Now() + kCancelTimeout;
  FAULTLINE_ASSIGN(MigrationState state, QueryMigration(*qmp_));
  if (state.under_way()) FAULTLINE_TRY(qmp_->Execute("migrate_cancel"));
  while (state.under_way()) {
    if (Now() > deadline) {
      return Fail(ErrorKind::kTimeout,
                  fmt::format("QEMU's migration is still '{}' after migrate_cancel", state.status));
    }
    std::this_thread::sleep_for(kPollInterval);
    FAULTLINE_ASSIGN(state, QueryMigration(*qmp_));
  }
  return {};
}

Status QemuSource::RunAgain() {
  FAULTLINE_ASSIGN(const std::string status, RunState(*qmp_));
  // QEMU itself restarts a guest whose migration failed or was cancelled, a moment after it says
  // so; `cont` in between does no harm. After `completed` only `cont` does it.
  if (status != "running") FAULTLINE_TRY(qmp_->Execute("cont"));
  return WaitRunState(*qmp_, "running", kRunTimeout);
}

Status QemuSource::Quit() {
  if (const auto asked = qmp_->Execute("quit"); !asked && !qmp_->broken()) {
    return tl::unexpected(asked.error());
  }
  // QEMU's end closes the connection.
  const Nanos deadline = Now() + kQuitTimeout;
  while (!qmp_->broken() && Now() < deadline) {
    (void)qmp_->WaitEvent([](const QmpEvent&) { return true; }, deadline - Now());
  }
  if (qmp_->broken()) return {};
  return Fail(ErrorKind::kTimeout,
              fmt::format("QEMU {} did not end after `quit`: end it by hand", facts_.pid));
}

}  // namespace faultline
