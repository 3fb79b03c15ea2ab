#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "engine/app/commands.h"
#include "engine/app/destination_session.h"
#include "engine/app/endpoint_policy.h"
#include "engine/app/interrupt.h"

namespace faultline {
namespace {

ExitCode Refuse(const Error& error) {
  fmt::print(stderr, "faultline: receive: {}\n", error.message);
  return error.kind == ErrorKind::kUsage ? ExitCode::kUsage : ExitCode::kNothingChanged;
}

}  // namespace

ExitCode RunReceive(const ReceiveOptions& options) {
  CatchInterrupts();
  const Result<Endpoint> endpoint = AllowedEndpoint(options.listen, options.insecure);
  if (!endpoint.has_value()) return Refuse(endpoint.error());
  QemuTarget target{.qmp_path = options.common.qmp_path, .pid = std::nullopt};
  if (options.common.pid != 0) target.pid = options.common.pid;
  const Result<std::unique_ptr<QemuDestination>> vm = QemuDestination::Attach(target);
  if (!vm.has_value()) return Refuse(vm.error());
  for (const Finding& finding : (*vm)->findings()) spdlog::debug("{}", finding.line);
  Result<Listener> listener = Listener::Create(*endpoint);
  if (!listener.has_value()) return Refuse(listener.error());
  DestinationSession session(options, **vm, std::move(*listener));
  return session.Run();
}

}  // namespace faultline
