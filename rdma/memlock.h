// The limit of locked memory (RLIMIT_MEMLOCK), which every registration counts against unless the
// process has CAP_IPC_LOCK. Some drivers (soft iWARP) hold root to it as well.
#pragma once

#include <string>

namespace faultline::rdma {

/// Raises this process's limit as far as it may: to no limit with CAP_SYS_RESOURCE.
void RaiseMemlock();
/// For messages: what the limit is and how to raise it, or that it is not the limit.
std::string DescribeMemlock();

}  // namespace faultline::rdma
