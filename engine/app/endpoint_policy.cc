#include "engine/app/endpoint_policy.h"

#include <fmt/format.h>

namespace faultline {

Result<Endpoint> AllowedEndpoint(const std::string& text, bool insecure) {
  FAULTLINE_ASSIGN(Endpoint endpoint, Endpoint::Parse(text));
  if (insecure) return endpoint;
  FAULTLINE_ASSIGN(const bool loopback, IsLoopback(endpoint));
  if (loopback) return endpoint;
  return Fail(ErrorKind::kUsage,
              fmt::format("{} is not a loopback address: guest memory would cross the network "
                          "unencrypted, and anyone who reaches the port could send or take a "
                          "guest; on a network you trust, add --insecure",
                          text));
}

}  // namespace faultline
