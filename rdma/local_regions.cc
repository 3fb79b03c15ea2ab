#include "rdma/local_regions.h"

namespace faultline::rdma {

Status LocalRegions::RegisterOne(size_t index) {
  const std::span<std::byte> memory = alias_.BytesOf(table_.regions()[index].run);
  FAULTLINE_ASSIGN(MemoryRegion region, Register(&domain_, memory, RegionUse::kLandReads));
  regions_[index].store(region.release(), std::memory_order_release);
  pinned_.fetch_add(memory.size(), std::memory_order_relaxed);
  return {};
}

void LocalRegions::Release() {
  for (std::atomic<ibv_mr*>& region : regions_) {
    const MemoryRegion gone(region.exchange(nullptr, std::memory_order_acq_rel));
  }
  pinned_.store(0, std::memory_order_relaxed);
}

}  // namespace faultline::rdma
