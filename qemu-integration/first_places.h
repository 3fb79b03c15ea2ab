// Which memory a guest's processors touch in their first instants after the switch, told from
// their registers and page tables while the guest still runs at the source.
//
// Each such page would be a fault of its own, one after the other: a processor walks its page
// tables level by level, then takes an interrupt through descriptors and stacks. The kernel's code
// is left out: 14 MiB of it before `cont` made the blackout longer, on two cores, by as much as it
// saved.
#pragma once

#include <vector>

#include "engine/core/vm.h"
#include "qemu-integration/guest_layout.h"
#include "qemu-integration/vcpu_registers.h"

namespace faultline {

/// Bounded by GuestPageTables' limits and some pages for each processor.
std::vector<RamPlace> FindFirstPlaces(const std::vector<VcpuRegisters>& cpus,
                                      const GuestLayout& layout, const ReadRam& read);

}  // namespace faultline
