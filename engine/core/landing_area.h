// Where the bytes of a page lane land, and how they get into the guest's RAM file.
//
// Two ways. In place: memory is the alias, and what has landed is in the file already; it pays
// where the alias has memory behind it (hugetlbfs, RDMA). Staged: a small buffer that stays in the
// cache, written into the file as pages complete; it pays on tmpfs, because a write neither faults
// nor zeroes the page it allocates.
#pragma once

#include <cstddef>
#include <span>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline {

/// Used by one thread: the lane's. Neither call allocates, locks or waits for the network.
class LandingArea {
 public:
  virtual ~LandingArea() = default;
  [[nodiscard]] virtual const Geometry& geometry() const = 0;
  /// Memory for all bytes of `run`. If it is not the run's own, valid until the next call for a
  /// run that has none of its own. REQUIRES: the run is requestable.
  virtual std::span<std::byte> MemoryOf(PageRun run) = 0;
  /// No other run has that memory: bytes of both can be received with one call.
  [[nodiscard]] virtual bool HasOwnMemory(PageRun) const { return false; }
  /// Bytes of `run` are about to land. Bit i of what is returned: a fault has overtaken its page i,
  /// and nothing of it may land. Once for a run.
  virtual uint64_t Begin(PageRun) { return 0; }
  /// What has begun is given up: no bytes of `pages` land any more.
  virtual void Abandon(PageRun) {}
  /// The bytes of `pages`, a part of that run, are complete in `bytes`, a part of that memory:
  /// afterwards the file has them. False: it cannot take them (no memory left on the tmpfs).
  virtual bool Land(PageRun pages, std::span<const std::byte> bytes) = 0;
  /// The last Land has said false.
  [[nodiscard]] virtual bool full() const { return false; }
};

/// In place.
class AliasLanding final : public LandingArea {
 public:
  /// `alias` outlives the area.
  explicit AliasLanding(const RamWindow& alias) : alias_(alias) {}
  [[nodiscard]] const Geometry& geometry() const override { return alias_.geometry(); }
  std::span<std::byte> MemoryOf(PageRun run) override { return alias_.BytesOf(run); }
  [[nodiscard]] bool HasOwnMemory(PageRun) const override { return true; }
  bool Land(PageRun, std::span<const std::byte>) override { return true; }

 private:
  const RamWindow& alias_;
};

}  // namespace faultline
