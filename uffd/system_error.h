// A failed system call as an Error.
#pragma once

#include <string>

#include "engine/core/result.h"

namespace faultline {

/// "`tried`: No such file or directory (ENOENT)", kind kSystem. `error_number` is an errno.
[[nodiscard]] tl::unexpected<Error> SystemFailure(const std::string& tried, int error_number);

}  // namespace faultline
