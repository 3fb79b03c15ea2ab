#include "qemu-integration/migration_setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <thread>
#include <utility>

#include "qemu-integration/json_read.h"

namespace faultline {

namespace {

constexpr std::string_view kLateBlockActivate = "late-block-activate";
/// What an earlier user may have left on, and what would change the stream or the sequence.
constexpr std::array<std::string_view, 12> kDisturbing = {
    "postcopy-ram",  "postcopy-preempt", "multifd",        "compress", "xbzrle",     "x-colo",
    "auto-converge", "release-ram",      "zero-copy-send", "block",    "mapped-ram", "dirty-limit"};

constexpr const char* kStreamName = "faultline-stream";

/// Bytes per second: the stream carries devices only, and the engine paces what it carries.
constexpr uint64_t kMaxBandwidth = uint64_t{1} << 36;

constexpr Nanos kShortestQuestion = std::chrono::milliseconds(200);
constexpr Nanos kPollInterval = std::chrono::milliseconds(2);
/// Events say so at once; a poll in between also finds what an event was lost for.
constexpr Nanos kEventSlice = std::chrono::milliseconds(100);

Nanos Now() { return std::chrono::steady_clock::now().time_since_epoch(); }

/// True or false where the capability has to be so, nothing where it does not matter.
std::optional<bool> WantedState(const std::string& capability) {
  const auto is = [&](std::string_view name) { return name == capability; };
  if (std::any_of(std::begin(kNeededCapabilities), std::end(kNeededCapabilities), is)) return true;
  if (capability == kLateBlockActivate) return true;
  if (std::any_of(kDisturbing.begin(), kDisturbing.end(), is)) return false;
  return std::nullopt;
}

bool IsEnd(std::string_view status) {
  return status == "completed" || status == "failed" || status == "cancelled";
}

/// Compares one status with the wanted one: true is there, false not yet.
Result<bool> Reached(const MigrationState& state, std::string_view wanted) {
  if (state.status == wanted) return true;
  if (!IsEnd(state.status) && state.status != "cancelling") return false;
  return Fail(ErrorKind::kRefused,
              fmt::format("QEMU's migration is '{}' instead of '{}': {}", state.status, wanted,
                          state.error.empty() ? "QEMU gives no reason" : state.error));
}

}  // namespace

Status MigrationSetup::Apply(QmpClient& qmp) {
  if (found_) return {};
  FAULTLINE_ASSIGN(const auto now,
                   qmp.ExecuteAll({{"query-migrate-capabilities"}, {"query-migrate-parameters"}}));
  FAULTLINE_ASSIGN(const Json known, now[0]);
  FAULTLINE_ASSIGN(const Json parameters, now[1]);
  Settings found{Json::array(), Json::object()};
  Json wanted = Json::array();
  for (const Json& capability : known) {
    const std::string name = StringOf(Member(capability, "capability"));
    const bool state = BoolOf(Member(capability, "state"));
    const std::optional<bool> wanted_state = WantedState(name);
    if (!wanted_state || *wanted_state == state) continue;
    found.capabilities.push_back({{"capability", name}, {"state", state}});
    wanted.push_back({{"capability", name}, {"state", *wanted_state}});
  }
  Json raised = {{"max-bandwidth", kMaxBandwidth}, {"downtime-limit", kDowntimeLimitsMs[0]}};
  // TLS inside the stream would speak to a QEMU that the engine stands between.
  if (!StringOf(Member(parameters, "tls-creds")).empty()) raised["tls-creds"] = "";
  for (const auto& [name, value] : raised.items()) {
    found.parameters[name] = Member(parameters, name.c_str());
  }
  FAULTLINE_TRY(qmp.Execute("migrate-set-capabilities", {{"capabilities", wanted}}));
  if (const auto set = qmp.Execute("migrate-set-parameters", raised); !set) {
    (void)qmp.Execute("migrate-set-capabilities", {{"capabilities", found.capabilities}});
    return tl::unexpected(set.error());
  }
  found_ = std::move(found);
  return {};
}

Status MigrationSetup::Restore(QmpClient& qmp) {
  if (!found_) return {};
  FAULTLINE_TRY(qmp.Execute("migrate-set-capabilities", {{"capabilities", found_->capabilities}}));
  FAULTLINE_TRY(qmp.Execute("migrate-set-parameters", found_->parameters));
  Forget();
  return {};
}

Result<std::string> PassStream(QmpClient& qmp, int stream_fd) {
  FAULTLINE_TRY(qmp.PassFd(kStreamName, stream_fd));
  return fmt::format("fd:{}", kStreamName);
}

void DropStream(QmpClient& qmp) { (void)qmp.CloseFd(kStreamName); }

bool MigrationState::under_way() const {
  return !status.empty() && status != "none" && !IsEnd(status);
}

Result<MigrationState> QueryMigration(QmpClient& qmp, Nanos timeout) {
  FAULTLINE_ASSIGN(const Json answer, qmp.Execute("query-migrate", Json::object(), timeout));
  return MigrationState{StringOf(Member(answer, "status")), StringOf(Member(answer, "error-desc"))};
}

Status WaitMigrationStatus(QmpClient& qmp, std::string_view wanted, Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  std::string last = "silent";
  for (Nanos left = timeout; left > Nanos::zero(); left = deadline - Now()) {
    // The event first: during the blackout a question costs more than it tells.
    const auto event = qmp.WaitEvent("MIGRATION", std::min(left, kEventSlice));
    if (!event && event.error().kind != ErrorKind::kTimeout) return tl::unexpected(event.error());
    if (event) last = StringOf(Member(event->data, "status"));
    if (last == wanted) return {};
    if (event && !IsEnd(last)) continue;
    const auto state = QueryMigration(qmp, std::clamp(left, kShortestQuestion, kQmpCommandTimeout));
    // No answer is no end: the destination's main thread may itself wait for a page.
    if (!state && state.error().kind == ErrorKind::kTimeout) continue;
    FAULTLINE_TRY(state);
    last = state->status;
    FAULTLINE_ASSIGN(const bool reached, Reached(*state, wanted));
    if (reached) return {};
  }
  return Fail(ErrorKind::kTimeout,
              fmt::format("QEMU's migration is still '{}' after {:.1f} s, not '{}'", last,
                          std::chrono::duration<double>(timeout).count(), wanted));
}

Result<std::string> RunState(QmpClient& qmp) {
  FAULTLINE_ASSIGN(const Json status, qmp.Execute("query-status"));
  return StringOf(Member(status, "status"));
}

Status WaitRunState(QmpClient& qmp, std::string_view wanted, Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  while (true) {
    FAULTLINE_ASSIGN(const std::string status, RunState(qmp));
    if (status == wanted) return {};
    if (Now() > deadline) {
      return Fail(ErrorKind::kTimeout,
                  fmt::format("QEMU ({}) has status '{}' where it should be '{}'", qmp.path(),
                              status, wanted));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

Status AllowDowntime(QmpClient& qmp, uint64_t limit_ms) {
  FAULTLINE_TRY(qmp.Execute("migrate-set-parameters", {{"downtime-limit", limit_ms}}));
  return {};
}

std::optional<int64_t> TimeOfEvent(QmpClient& qmp, std::string_view name) {
  std::optional<int64_t> time;
  while (const auto event = qmp.WaitEvent(name, Nanos::zero())) time = event->host_micros;
  return time;
}

}  // namespace faultline
