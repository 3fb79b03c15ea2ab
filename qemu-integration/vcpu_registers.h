// What `info registers -a` says of a guest's x86-64 processors, as far as it tells which memory
// they are about to touch.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace faultline {

inline constexpr size_t kVcpusMax = 4096;

/// A processor in 64-bit mode; addresses are the guest's virtual ones.
struct VcpuRegisters {
  uint64_t page_table_root = 0;  ///< CR3 without its flags: guest-physical
  bool five_levels = false;      ///< CR4.LA57
  uint64_t instruction = 0;      ///< RIP
  uint64_t stack = 0;            ///< RSP
  uint64_t fs = 0;               ///< thread-local data of whoever runs
  uint64_t gs = 0;               ///< in the kernel: this processor's own data
  uint64_t task_state = 0;       ///< TR: stacks for interrupts
  uint64_t descriptors = 0;      ///< GDT
  uint64_t interrupts = 0;       ///< IDT
};

/// The processors that are in 64-bit mode with paging on; others are left out.
std::vector<VcpuRegisters> ParseRegisters(std::string_view text);

}  // namespace faultline
