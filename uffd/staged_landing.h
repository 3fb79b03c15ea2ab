// Landing for TCP lanes at the destination: staged on tmpfs, in place where memory comes in huge
// pages (allocated in advance, for little).
//
// Measured on 4 KiB tmpfs pages, Linux 6.18, µs a page: allocate in advance with
// MADV_POPULATE_WRITE and receive in place 2.9 + 0.4; with fallocate, receive and write
// 1.1 + 0.4 + 0.7; receive in place without memory there 4.5. perf/placer_bench has them all.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "engine/core/landing_area.h"
#include "engine/core/result.h"
#include "uffd/alias_mapping.h"
#include "uffd/guest_ram.h"

namespace faultline {

class StagedLanding final : public LandingArea {
 public:
  /// Allocates the staging buffer, of the longest run. `ram` outlives the area.
  static Result<std::unique_ptr<StagedLanding>> Create(const GuestRam& ram);

  [[nodiscard]] const Geometry& geometry() const override { return ram_.geometry(); }
  std::span<std::byte> MemoryOf(PageRun run) override;
  [[nodiscard]] bool HasOwnMemory(PageRun run) const override { return LandsInPlace(run); }
  bool Land(PageRun pages, std::span<const std::byte> bytes) override;
  [[nodiscard]] bool full() const override;

 private:
  StagedLanding(const GuestRam& ram, AliasMapping staging)
      : ram_(ram), staging_(std::move(staging)) {}
  [[nodiscard]] bool LandsInPlace(PageRun run) const;

  const GuestRam& ram_;
  AliasMapping staging_;
  bool full_ = false;
};

}  // namespace faultline
