#include <fmt/format.h>

#include "engine/app/command_support.h"
#include "engine/app/commands.h"
#include "qemu-integration/check.h"

namespace faultline {
namespace {

const char* Word(Severity severity) {
  switch (severity) {
    case Severity::kRefusal:
      return "refused";
    case Severity::kWarning:
      return "warning";
    case Severity::kNote:
      return "note";
  }
  return "";
}

}  // namespace

ExitCode RunCheck(const CheckOptions& options) {
  const QemuTarget target = TargetOf(options.common);
  const Result<std::unique_ptr<QmpClient>> qmp = QmpClient::Connect(target.qmp_path);
  if (!qmp.has_value()) {
    fmt::print(stderr, "faultline: {}\n", qmp.error().message);
    return ExitCode::kNothingChanged;
  }
  const Result<QemuFacts> facts = InspectQemu(**qmp, target.pid);
  if (!facts.has_value()) {
    fmt::print(stderr, "faultline: {}\n", facts.error().message);
    return ExitCode::kNothingChanged;
  }
  const VmRole role = options.destination ? VmRole::kDestination : RoleOf(*facts);
  const std::vector<Finding> findings = CheckQemu(*facts, role);
  for (const Finding& finding : findings) {
    fmt::print("{}: {}\n", Word(finding.severity), finding.line);
  }
  const bool fit = FirstRefusal(findings).has_value();
  fmt::print("QEMU {} (pid {}): {}\n", facts->version, facts->pid,
             !fit                           ? "cannot be moved as it is"
             : role == VmRole::kDestination ? "ready to receive"
                                            : "can be moved");
  return fit ? ExitCode::kDone : ExitCode::kNothingChanged;
}

}  // namespace faultline
