// The destination of a measurement: guest RAM in this process, watched by a userfaultfd, with the
// engine's own parts to serve it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/app/monotonic_clock.h"
#include "engine/core/landing.h"
#include "engine/core/ledger.h"
#include "engine/core/waiter_table.h"
#include "perf/rdma/source.h"
#include "rdma/local_regions.h"
#include "rdma/read_channel.h"
#include "rdma/remote_table.h"
#include "uffd/guest_ram.h"
#include "uffd/uffd_fault_source.h"
#include "uffd/uffd_placer.h"

namespace faultline::bench {

/// Nothing is mapped and nothing allocated in it.
class Guest {
 public:
  explicit Guest(PageCount pages);
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest();

  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  /// What the guest sees in the first word of the page. May fault.
  [[nodiscard]] uint64_t Load(PageIndex page) const;
  /// REQUIRES: an address of the guest's RAM.
  [[nodiscard]] PageIndex PageAt(VmmAddr address) const { return map_.PageOf(address).value(); }
  [[nodiscard]] Landing::Parts Parts() {
    return {geometry_, ledger_,        placer_,          waiters_,
            clock_,    fault_metrics_, landing_metrics_, nullptr};
  }
  UserfaultFd& uffd() { return uffd_; }
  UffdFaultSource& source() { return source_; }
  UffdPlacer& placer() { return placer_; }
  GuestRam& ram() { return ram_; }
  Ledger& ledger() { return ledger_; }
  [[nodiscard]] const FaultMetrics& fault_metrics() const { return fault_metrics_; }

 private:
  struct Mapped {
    UniqueFd file;
    void* base;
  };
  static Mapped Map(ByteCount bytes);
  [[nodiscard]] VmDescription Describe() const;

  Geometry geometry_;
  Mapped mapped_;
  VmmMap map_;
  GuestRam ram_;
  UserfaultFd uffd_;
  UffdFaultSource source_;
  UffdPlacer placer_;
  std::vector<Ledger::Cell> cells_;
  Ledger ledger_;
  WaiterTable waiters_;
  MonotonicClock clock_;
  FaultMetrics fault_metrics_;
  LandingMetrics landing_metrics_;
};

/// What lanes of READs into a guest need: the source's pages, all current, and the alias,
/// registered, which allocates it.
class ReadWays {
 public:
  ReadWays(Guest& guest, const SourceProcess& source);

  rdma::Connection Connect(LaneKind lane, uint64_t generation);
  rdma::ReadChannel::Memory Memory();
  [[nodiscard]] Nanos registration() const { return registration_; }
  [[nodiscard]] const ibv_mr& local() const { return *local_.Of(0); }

 private:
  struct NoSink final : rdma::PageSink {
    bool Write(PageRun, std::span<const std::byte>) override { return false; }
  };
  Guest& guest_;
  const rdma::DialPlan plan_;
  rdma::Reader reader_;
  rdma::RemoteTable remote_;
  rdma::LocalRegions local_;
  std::unique_ptr<rdma::LandingPool> pool_;
  NoSink sink_;
  Counter read_bytes_;
  Nanos registration_{};
};

}  // namespace faultline::bench
