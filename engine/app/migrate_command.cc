#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "engine/app/commands.h"
#include "engine/app/endpoint_policy.h"
#include "engine/app/interrupt.h"
#include "engine/app/source_session.h"

namespace faultline {
namespace {

ExitCode Refuse(const Error& error) {
  fmt::print(stderr, "faultline: migrate: {}\n", error.message);
  return error.kind == ErrorKind::kUsage ? ExitCode::kUsage : ExitCode::kNothingChanged;
}

}  // namespace

ExitCode RunMigrate(const MigrateOptions& options) {
  CatchInterrupts();
  const Result<Endpoint> endpoint = AllowedEndpoint(options.to, options.insecure);
  if (!endpoint.has_value()) return Refuse(endpoint.error());
  QemuTarget target{.qmp_path = options.common.qmp_path, .pid = std::nullopt};
  if (options.common.pid != 0) target.pid = options.common.pid;
  const Result<std::unique_ptr<QemuSource>> vm = QemuSource::Attach(target);
  if (!vm.has_value()) return Refuse(vm.error());
  for (const Finding& finding : (*vm)->findings()) spdlog::debug("{}", finding.line);
  SourceSession session(options, **vm, *endpoint);
  return session.Run();
}

}  // namespace faultline
