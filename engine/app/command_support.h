// What the commands share: which QEMU is meant, and how a command ends that never began.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "engine/app/options.h"
#include "engine/core/result.h"
#include "qemu-integration/qemu_inspect.h"
#include "rdma/device.h"

namespace faultline {

inline QemuTarget TargetOf(const CommonOptions& common) {
  QemuTarget target{.qmp_path = common.qmp_path, .pid = std::nullopt};
  if (common.pid != 0) target.pid = common.pid;
  return target;
}

/// Who insists on RDMA, or on a device, is told at once that there is none.
inline Status CheckRdma(const RdmaOptions& options) {
  const bool insists = options.transport == Transport::kRdma || !options.device.empty();
  if (options.transport == Transport::kTcp || !insists) return {};
  const Result<rdma::DeviceAddress> address = rdma::ChooseAddress(options.device, "");
  if (!address.has_value()) return tl::make_unexpected(address.error());
  return {};
}

/// One line on stderr; wrong usage and all other refusals have exit codes of their own.
inline ExitCode Refuse(std::string_view command, const Error& error) {
  fmt::print(stderr, "faultline: {}: {}\n", command, error.message);
  return error.kind == ErrorKind::kUsage ? ExitCode::kUsage : ExitCode::kNothingChanged;
}

}  // namespace faultline
