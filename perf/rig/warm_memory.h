// Memory that the machine really has.
#pragma once

#include <sys/mman.h>

#include "engine/core/units.h"

namespace faultline::rig {

/// Touches so much free memory and gives it back. Where a hypervisor takes back what lies free, the
/// first touch costs several µs a page: its price, not the engine's, and it grows with the guest.
/// In huge pages: who comes next finds it warm in whichever size.
inline void WarmMemory(ByteCount bytes) {
  void* const memory =
      ::mmap(nullptr, bytes.value(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  static_cast<void>(::madvise(memory, bytes.value(), MADV_HUGEPAGE));
  static_cast<void>(::madvise(memory, bytes.value(), MADV_POPULATE_WRITE));
  ::munmap(memory, bytes.value());
}

}  // namespace faultline::rig
