#include "engine/core/waiter_table.h"

#include "engine/core/simulation_hook.h"

namespace faultline {

size_t WaiterTable::HomeOf(PageIndex page) {
  // Fibonacci hashing: neighbouring pages spread over the table.
  return static_cast<size_t>((page.value() * 0x9E3779B97F4A7C15u) >> 52) & (kSlots - 1);
}

WaiterTable::Slot* WaiterTable::Find(PageIndex page) {
  const size_t home = HomeOf(page);
  const size_t probe_max = probe_max_.load(std::memory_order_acquire);
  for (size_t probe = 0; probe <= probe_max; ++probe) {
    Slot& slot = slots_[(home + probe) & (kSlots - 1)];
    if (slot.key.load(std::memory_order_acquire) == page.value() + 1) return &slot;
  }
  return nullptr;
}

bool WaiterTable::Add(PageIndex page, Nanos read) {
  SimulationYield();
  if (Find(page) != nullptr) return true;
  const size_t home = HomeOf(page);
  for (size_t probe = 0; probe < kSlots; ++probe) {
    Slot& slot = slots_[(home + probe) & (kSlots - 1)];
    if (slot.key.load(std::memory_order_relaxed) != kFree) continue;
    // A slot is only searched as far as probe_max_: raise it before the key can be seen.
    size_t known = probe_max_.load(std::memory_order_relaxed);
    while (known < probe && !probe_max_.compare_exchange_weak(known, probe)) {
    }
    uint64_t expected = kFree;
    if (!slot.key.compare_exchange_strong(expected, page.value() + 1)) continue;
    slot.read_ns.store(read.count(), std::memory_order_release);
    slot.requested_ns.store(0, std::memory_order_release);
    size_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void WaiterTable::NoteRequested(PageIndex page, Nanos requested) {
  Slot* slot = Find(page);
  if (slot != nullptr) slot->requested_ns.store(requested.count(), std::memory_order_release);
}

std::optional<WaiterTable::Times> WaiterTable::Remove(PageIndex page) {
  SimulationYield();
  Slot* slot = Find(page);
  if (slot == nullptr) return std::nullopt;
  const Times times{Nanos(slot->read_ns.load(std::memory_order_acquire)),
                    Nanos(slot->requested_ns.load(std::memory_order_acquire))};
  uint64_t expected = page.value() + 1;
  if (!slot->key.compare_exchange_strong(expected, kFree)) return std::nullopt;
  size_.fetch_sub(1, std::memory_order_relaxed);
  return times;
}

}  // namespace faultline
