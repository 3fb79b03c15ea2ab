#include "uffd/system_error.h"

#include <cstring>

namespace faultline {

tl::unexpected<Error> SystemFailure(const std::string& tried, int error_number) {
  const char* name = ::strerrorname_np(error_number);
  return Fail(ErrorKind::kSystem, tried + ": " + ::strerrordesc_np(error_number) + " (" +
                                      (name != nullptr ? name : "?") + ")");
}

}  // namespace faultline
