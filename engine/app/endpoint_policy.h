// Until lanes are encrypted: guest memory leaves the machine only if the operator says so.
#pragma once

#include <string>

#include "engine/core/result.h"
#include "engine/tcp/socket.h"

namespace faultline {

/// Parses `text`; refuses an address other than loopback unless `insecure`.
Result<Endpoint> AllowedEndpoint(const std::string& text, bool insecure);

}  // namespace faultline
