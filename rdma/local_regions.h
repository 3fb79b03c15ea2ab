// The destination's memory that READs land in: the alias of guest RAM, registered region by region
// as the source's table has them, ahead of the pusher. Registering pins, and so allocates: it is
// the allocation that landing needs anyway.
//
// Registered memory is emptied (PUNCH_HOLE) in one case: the guest gave the page up, or it turned
// out to be zero. The region then points to an orphan page, silently. That is harmless because such
// a page is never read again: Released and Hole are states that no fetch leaves (page_life.h), and
// it is emptied only after its own landing has ended.
//
// Threads: one registers, any number look.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "rdma/remote_table.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

class LocalRegions {
 public:
  /// All outlive it. `alias` is where the pages lie in this process.
  LocalRegions(const RemoteTable& table, const RamWindow& alias, ibv_pd& domain)
      : table_(table), alias_(alias), domain_(domain), regions_(table.regions().size()) {}
  LocalRegions(const LocalRegions&) = delete;
  LocalRegions& operator=(const LocalRegions&) = delete;
  ~LocalRegions() { Release(); }

  /// Registers the alias of the table's region `index`. One thread, each once.
  Status RegisterOne(size_t index);
  /// The local key for a page of the table's region `index`; nullptr: not registered (yet).
  [[nodiscard]] const ibv_mr* Of(size_t index) const {
    return regions_[index].load(std::memory_order_acquire);
  }
  [[nodiscard]] size_t size() const { return regions_.size(); }
  [[nodiscard]] ByteCount pinned() const {
    return ByteCount(pinned_.load(std::memory_order_relaxed));
  }
  /// Gives all memory back. REQUIRES: no lane uses it any more.
  void Release();

 private:
  const RemoteTable& table_;
  const RamWindow& alias_;
  ibv_pd& domain_;
  std::vector<std::atomic<ibv_mr*>> regions_;
  std::atomic<uint64_t> pinned_{0};
};

}  // namespace faultline::rdma
