// Descriptors across a UNIX socket (SCM_RIGHTS): for VMMs that make their userfaultfd themselves
// and hand it over, and for the tests. Source: unix(7), cmsg(3).
#pragma once

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "uffd/unique_fd.h"

namespace faultline {

/// Sends one byte and a copy of `fd`, which stays the caller's.
Status SendFd(int socket, int fd);
/// Takes exactly one descriptor, close-on-exec. Waits at most `timeout`.
Result<UniqueFd> ReceiveFd(int socket, Nanos timeout);

}  // namespace faultline
