#include <spdlog/spdlog.h>

#include "engine/app/command_support.h"
#include "engine/app/commands.h"
#include "engine/app/destination_session.h"
#include "engine/app/endpoint_policy.h"
#include "engine/app/interrupt.h"

namespace faultline {

ExitCode RunReceive(const ReceiveOptions& options) {
  constexpr std::string_view kCommand = "receive";
  CatchInterrupts();
  const Result<Endpoint> endpoint = AllowedEndpoint(options.listen, options.insecure);
  if (!endpoint.has_value()) return Refuse(kCommand, endpoint.error());
  if (const Status usable = CheckRdma(options.rdma); !usable.has_value()) {
    return Refuse(kCommand, usable.error());
  }
  const Result<std::unique_ptr<QemuDestination>> vm =
      QemuDestination::Attach(TargetOf(options.common));
  if (!vm.has_value()) return Refuse(kCommand, vm.error());
  for (const Finding& finding : (*vm)->findings()) spdlog::debug("{}", finding.line);
  Result<Listener> listener = Listener::Create(*endpoint);
  if (!listener.has_value()) return Refuse(kCommand, listener.error());
  DestinationSession session(options, **vm, std::move(*listener));
  return session.Run();
}

}  // namespace faultline
