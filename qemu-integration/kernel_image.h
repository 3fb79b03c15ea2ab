// Where the guest's kernel lies: its code, and the data that it writes. Told from where a page
// fault of the guest enters, and from how its page tables map what lies around that: so it holds
// for any kernel that keeps its image together, as Linux does
// (Documentation/arch/x86/x86_64/mm.rst).
//
// The guest runs meanwhile: a guess, and bounded.
#pragma once

#include <vector>

#include "engine/core/units.h"
#include "qemu-integration/guest_page_tables.h"
#include "qemu-integration/vcpu_registers.h"

namespace faultline {

struct GuestRange {
  GuestAddr start;
  ByteCount length;
  friend bool operator==(const GuestRange&, const GuestRange&) = default;
};

inline constexpr ByteCount kKernelCodeMax{uint64_t{24} << 20};
inline constexpr ByteCount kKernelDataMax{uint64_t{16} << 20};

/// Code first, each as its mappings follow each other. Nothing where page faults enter nowhere.
std::vector<GuestRange> FindKernelImage(const VcpuRegisters& cpu, GuestPageTables& tables);

}  // namespace faultline
