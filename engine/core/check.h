// CHECK: an assertion about our own code, on in every build.
//
// A failed CHECK is a defect of faultline, never something the network, the peer or the guest
// did: those are answered with a Result or an enum. It stops the process before damage spreads;
// the guest waits on the copy of its userfaultfd that the VMM holds and never reads wrong bytes.
#pragma once

#include <cstdio>

namespace faultline {

[[noreturn, gnu::cold, gnu::noinline]] inline void CheckFailed(const char* condition,
                                                               const char* file, int line) {
  std::fprintf(stderr, "faultline: internal error: CHECK(%s) failed at %s:%d\n", condition, file,
               line);
  std::fflush(stderr);
  __builtin_trap();
}

}  // namespace faultline

#define FAULTLINE_CHECK(condition)                               \
  do {                                                           \
    if (!(condition)) [[unlikely]] {                             \
      ::faultline::CheckFailed(#condition, __FILE__, __LINE__);  \
    }                                                            \
  } while (false)
