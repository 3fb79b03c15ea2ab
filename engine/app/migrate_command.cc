#include <spdlog/spdlog.h>

#include "engine/app/command_support.h"
#include "engine/app/commands.h"
#include "engine/app/endpoint_policy.h"
#include "engine/app/interrupt.h"
#include "engine/app/source_session.h"

namespace faultline {

ExitCode RunMigrate(const MigrateOptions& options) {
  constexpr std::string_view kCommand = "migrate";
  CatchInterrupts();
  const Result<Endpoint> endpoint = AllowedEndpoint(options.to, options.insecure);
  if (!endpoint.has_value()) return Refuse(kCommand, endpoint.error());
  if (const Status usable = CheckRdma(options.rdma); !usable.has_value()) {
    return Refuse(kCommand, usable.error());
  }
  const Result<std::unique_ptr<QemuSource>> vm = QemuSource::Attach(TargetOf(options.common));
  if (!vm.has_value()) return Refuse(kCommand, vm.error());
  for (const Finding& finding : (*vm)->findings()) spdlog::debug("{}", finding.line);
  SourceSession session(options, **vm, *endpoint);
  return session.Run();
}

}  // namespace faultline
