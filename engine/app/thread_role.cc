#include "engine/app/thread_role.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace faultline {
namespace {

constexpr int kUrgentNice = -10;

}  // namespace

void TakeRole(ThreadRole role) {
  if (role != ThreadRole::kUrgent) return;
  const sched_param lowest{.sched_priority = sched_get_priority_min(SCHED_RR)};
  if (pthread_setschedparam(pthread_self(), SCHED_RR, &lowest) == 0) return;
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  static_cast<void>(setpriority(PRIO_PROCESS, thread, kUrgentNice));
}

}  // namespace faultline
