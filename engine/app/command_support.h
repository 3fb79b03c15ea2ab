// What the commands share: which QEMU is meant, and how a command ends that never began.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "engine/app/options.h"
#include "engine/core/result.h"
#include "qemu-integration/qemu_inspect.h"

namespace faultline {

inline QemuTarget TargetOf(const CommonOptions& common) {
  QemuTarget target{.qmp_path = common.qmp_path, .pid = std::nullopt};
  if (common.pid != 0) target.pid = common.pid;
  return target;
}

/// One line on stderr; wrong usage and all other refusals have exit codes of their own.
inline ExitCode Refuse(std::string_view command, const Error& error) {
  fmt::print(stderr, "faultline: {}: {}\n", command, error.message);
  return error.kind == ErrorKind::kUsage ? ExitCode::kUsage : ExitCode::kNothingChanged;
}

}  // namespace faultline
