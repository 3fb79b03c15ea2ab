// Which memory a guest's processors touch in their first instants after the switch, told from
// their registers and page tables while the guest still runs at the source.
//
// Each such page would be a fault of its own, one after the other: a processor walks its page
// tables level by level, then takes an interrupt through descriptors and stacks into its kernel's
// code. Which of the kernel's pages it will be is not known; so all of them.
#pragma once

#include <vector>

#include "engine/core/vm.h"
#include "qemu-integration/guest_layout.h"
#include "qemu-integration/vcpu_registers.h"

namespace faultline {

/// Bounded by the limits of GuestPageTables and FindKernelImage, and some pages for each processor.
FirstPlaces FindFirstPlaces(const std::vector<VcpuRegisters>& cpus, const GuestLayout& layout,
                            const ReadRam& read);

}  // namespace faultline
