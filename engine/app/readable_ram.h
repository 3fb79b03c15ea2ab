// The source's guest RAM, registered with an RDMA device so that the destination can read it by
// itself. Three steps:
//
//   1 Register      while the guest runs: what has memory, without long stretches of zeroes
//   (nothing
//                   is gained by pinning and reading those), in regions, by several threads
//   2 VisitCurrent  once it has stopped: which registered pages are still the guest's
//                   (uffd/extent_mapping.h proves it). The others are served over TCP, as is
//                   everything that is not registered
//   3 Stop          the lanes end, the memory is given back, the keys are dead
//
// A hole is never registered: pinning would allocate it. (A page punched between the look and the
// pinning is allocated, as a page of zeroes, which is what the guest would find.)
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/core/rdma_wire.h"
#include "engine/core/result.h"
#include "engine/core/source_memory.h"
#include "engine/core/vm.h"
#include "rdma/answerer.h"
#include "rdma/verbs.h"
#include "uffd/extent_mapping.h"
#include "uffd/guest_ram.h"

namespace faultline {

class ReadableRam {
 public:
  static constexpr ByteCount kRegionBytes{uint64_t{16} << 20};  ///< more for very large guests
  /// Shorter runs are served over TCP, and shorter stretches of zeroes read like any page.
  static constexpr ByteCount kRunBytesMin{uint64_t{64} << 10};
  static constexpr unsigned kThreadsMax = 4;

  /// Listens for the destination. `ram` and what it refers to outlive it.
  static Result<std::unique_ptr<ReadableRam>> Create(const rdma::Answerer::Plan& plan,
                                                     const VmDescription& vm, const GuestRam& ram);
  ReadableRam(const ReadableRam&) = delete;
  ReadableRam& operator=(const ReadableRam&) = delete;
  ~ReadableRam() { Stop(); }

  /// `data` of GuestRam::DataRuns. `look` runs every few milliseconds and may end it with an error.
  Status Register(std::span<const PageRun> data, const std::function<Status()>& look);
  /// REQUIRES: the guest is stopped. `send` gets rising runs that are in regions(), in batches.
  Status VisitCurrent(const std::function<Status(const std::vector<PageRun>&)>& send);
  /// Ends the lanes and gives the memory back. May be called again.
  void Stop();

  [[nodiscard]] const std::vector<wire::RdmaRegion>& regions() const { return regions_; }
  [[nodiscard]] wire::RdmaOffer offer() const { return {answerer_->host(), answerer_->port()}; }
  [[nodiscard]] const std::string& device() const { return answerer_->limits().device; }
  /// Pinned so far; any thread.
  [[nodiscard]] ByteCount pinned() const {
    return ByteCount(pinned_.load(std::memory_order_relaxed));
  }
  [[nodiscard]] rdma::Answerer& answerer() { return *answerer_; }

 private:
  struct Pinned {
    PageRun run;
    ExtentMapping mapping;
    rdma::MemoryRegion region;  ///< goes before the mapping
  };

  ReadableRam(const GuestRam& ram, std::vector<RamFile> files,
              std::unique_ptr<rdma::Answerer> answerer);
  [[nodiscard]] unsigned ThreadCount() const;
  std::vector<PageRun> WithoutZeroes(PageRun piece);
  Status PinOne(PageRun run);
  [[nodiscard]] std::vector<PageRun> CurrentOf(const Pinned& pinned) const;

  const GuestRam& ram_;
  const std::vector<RamFile> files_;  ///< opened for writing: see ExtentMapping
  std::unique_ptr<rdma::Answerer> answerer_;
  PresenceMap zero_hint_;  ///< registered pages that were zero when they were looked at
  std::vector<wire::RdmaRegion> regions_;
  std::atomic<uint64_t> pinned_{0};
  std::mutex mutex_;  ///< guards memory_ while several threads register
  std::vector<Pinned> memory_;
};

}  // namespace faultline
