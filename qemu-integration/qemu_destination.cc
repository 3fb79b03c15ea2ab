// The destination's half of qemu_vm.h.
#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "qemu-integration/qemu_vm.h"

namespace faultline {

namespace {

using std::chrono::seconds;

/// `cont` may wait for a page that the main thread touches, so it gets longer than other commands.
constexpr Nanos kContTimeout = seconds(30);
constexpr Nanos kRunTimeout = seconds(10);
constexpr Nanos kPausedTimeout = seconds(5);
constexpr Nanos kQuitTimeout = std::chrono::milliseconds(500);

/// From 9.1 on QEMU can report why the load failed instead of exiting at once.
constexpr int kMajorWithExitOnError = 10;

}  // namespace

QemuDestination::QemuDestination(std::unique_ptr<QmpClient> qmp, QemuFacts facts,
                                 std::vector<Finding> findings)
    : qmp_(std::move(qmp)),
      facts_(std::move(facts)),
      findings_(std::move(findings)),
      description_(Describe(facts_)) {}

Result<std::unique_ptr<QemuDestination>> QemuDestination::Attach(const QemuTarget& target) {
  FAULTLINE_ASSIGN(auto qmp, QmpClient::Connect(target.qmp_path));
  FAULTLINE_ASSIGN(QemuFacts facts, InspectQemu(*qmp, target.pid));
  std::vector<Finding> findings = CheckQemu(facts, VmRole::kDestination);
  FAULTLINE_TRY(FirstRefusal(findings));
  return std::unique_ptr<QemuDestination>(
      new QemuDestination(std::move(qmp), std::move(facts), std::move(findings)));
}

Status QemuDestination::StartDeviceState(int stream_fd) {
  FAULTLINE_TRY(SetUp());
  // While QEMU waits for a migration, `stop` means: do not start by yourself (qmp_stop).
  FAULTLINE_TRY(qmp_->Execute("stop"));
  qmp_->ForgetEvents();
  running_at_.reset();
  FAULTLINE_ASSIGN(const std::string uri, PassStream(*qmp_, stream_fd));
  Json arguments = {{"uri", uri}};
  if (facts_.version_major >= kMajorWithExitOnError) arguments["exit-on-error"] = false;
  const auto started = qmp_->Execute("migrate-incoming", std::move(arguments));
  if (started) {
    setup_.Forget();  // QEMU keeps them to the end now
    return {};
  }
  DropStream(*qmp_);
  return tl::unexpected(started.error());
}

Status QemuDestination::WaitLoaded(Nanos timeout) {
  Status loaded = qmp_->Prepare("query-status");
  if (loaded) loaded = WaitMigrationStatus(*qmp_, "completed", timeout);
  if (!loaded) return LoadFailed(loaded.error());
  FAULTLINE_TRY(WaitRunState(*qmp_, "paused", kPausedTimeout));
  return qmp_->Prepare("cont");
}

Status QemuDestination::LoadFailed(const Error& error) {
  if (error.kind == ErrorKind::kTimeout) return tl::unexpected(error);
  // Half-loaded devices are of no use: end it, as every QEMU does that was not told otherwise.
  // Its main thread may sleep in a fault that nobody will answer: asked, not waited for.
  if (!qmp_->broken()) (void)qmp_->Execute("quit", Json::object(), kQuitTimeout);
  return Fail(ErrorKind::kRefused,
              fmt::format("QEMU {} could not load the guest's devices ({}): start it with the same "
                          "machine and devices as the source; its stderr may say more",
                          facts_.pid, error.message));
}

Status QemuDestination::Run() {
  const auto asked = qmp_->Execute("cont", Json::object(), kContTimeout);
  if (!asked && asked.error().kind != ErrorKind::kTimeout) return tl::unexpected(asked.error());
  // The event comes before the answer; a question now would cost the guest's first instants.
  running_at_ = TimeOfEvent(*qmp_, "RESUME");
  if (running_at_) return {};
  FAULTLINE_TRY(WaitRunState(*qmp_, "running", kRunTimeout));
  running_at_ = TimeOfEvent(*qmp_, "RESUME");
  return {};
}

Status QemuDestination::Announce() {
  if (facts_.netdev_types.empty()) return {};  // the question would cost the guest's first instants
  // QEMU's own defaults. It announced once before `cont`, when nothing could answer yet.
  FAULTLINE_TRY(qmp_->Execute("announce-self",
                              {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}}));
  return {};
}

}  // namespace faultline
