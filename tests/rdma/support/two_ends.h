// Both ends of lanes of READs in one process: a source whose pages hold a pattern, and a
// destination that reads them, over the device of the laboratory ($LAB_DEVICE).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/tcp/tcp_reactor.h"
#include "rdma/answerer.h"
#include "rdma/dial.h"
#include "rdma/read_channel.h"
#include "tests/uffd/support/own_guest.h"

namespace faultline::testing {

/// Empty where this machine has an RDMA device; else the reason, for GTEST_SKIP.
std::string WhyNoDevice();

/// One 4 KiB-paged region in shared memory, mapped once.
class TestRam {
 public:
  explicit TestRam(uint64_t pages);
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] const RamWindow& window() const { return window_; }
  [[nodiscard]] std::span<std::byte> BytesOf(PageRun run) const { return window_.BytesOf(run); }
  [[nodiscard]] PageRun All() const { return geometry_.pages_of(0); }
  [[nodiscard]] int file() const { return file_.get(); }
  /// Every byte of every page says which page it is.
  void FillWithPattern() const;
  [[nodiscard]] bool HoldsPattern(PageIndex page) const;
  [[nodiscard]] bool HoldsZero(PageIndex page) const;

 private:
  Geometry geometry_;
  UniqueFd file_;
  GuestMapping mapping_;
  RamWindow window_;
};

/// Writes what has landed in the pool through the mapping.
class CopyingSink final : public rdma::PageSink {
 public:
  explicit CopyingSink(const RamWindow& ram) : ram_(ram) {}
  bool Write(PageRun run, std::span<const std::byte> bytes) override;
  bool full = false;
  int written = 0;

 private:
  const RamWindow& ram_;
};

/// The source: its pages are registered in regions of `region_pages`.
class SourceEnd {
 public:
  SourceEnd(uint64_t pages, uint64_t region_pages);

  TestRam ram;
  wire::MigrationId migration{1, 2, 3};
  std::unique_ptr<rdma::Answerer> answerer;
  std::vector<rdma::MemoryRegion> memory;
  std::vector<wire::RdmaRegion> regions;

  [[nodiscard]] rdma::DialPlan Plan() const;
  [[nodiscard]] wire::LaneIdentity Lane(uint64_t generation = 1) const;
};

/// The destination, for one lane at a time.
class ReadingEnd {
 public:
  /// `regions` as the source has told them.
  ReadingEnd(const SourceEnd& source, std::vector<wire::RdmaRegion> regions,
             ByteCount pool = ByteCount(uint64_t{1} << 20));

  /// Dials, and opens a lane.
  std::unique_ptr<rdma::ReadChannel> Open(const SourceEnd& source, uint64_t generation = 1);
  /// Waits and reaps until `pages` have arrived or the lane is broken, a few seconds at most.
  std::vector<PageRun> Reap(rdma::ReadChannel& lane, uint64_t pages);
  /// Waits until the lane is broken.
  bool AwaitBroken(rdma::ReadChannel& lane);

  TestRam ram;
  rdma::Reader reader;
  rdma::RemoteTable table;
  rdma::LocalRegions local;
  std::unique_ptr<rdma::LandingPool> pool;
  CopyingSink sink;
  Counter read_bytes;
  std::unique_ptr<TcpReactor> inner;
  rdma::ReadReactor reactor;
};

}  // namespace faultline::testing
