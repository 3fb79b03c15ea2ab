// The commands of the program, one function each. Each prints its own result and returns how the
// process ends; none of them throws.
#pragma once

#include "engine/app/options.h"

namespace faultline {

ExitCode RunCheck(const CheckOptions& options);
ExitCode RunReceive(const ReceiveOptions& options);
ExitCode RunMigrate(const MigrateOptions& options);

}  // namespace faultline
