#include "rdma/memlock.h"

#include <fmt/format.h>
#include <sys/resource.h>

namespace faultline::rdma {

void RaiseMemlock() {
  rlimit limit{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) == 0) return;
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_MEMLOCK, &limit);
}

std::string DescribeMemlock() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return "; locked memory is not limited: is the host, or its cgroup, out of memory?";
  }
  return fmt::format(
      "; at most {} KiB may be locked: raise it (ulimit -l unlimited, LimitMEMLOCK=infinity), or "
      "use --transport tcp",
      limit.rlim_cur >> 10);
}

}  // namespace faultline::rdma
