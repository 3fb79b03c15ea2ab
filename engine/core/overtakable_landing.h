// A fault on a page that a bulk lane has asked for does not wait for the queue in which its bytes
// are: it overtakes them. The urgent lane fetches the page, and what the bulk lane brings of it is
// thrown away. Which of the two may let bytes land is one mark in the ledger, and taken once:
//
//   Pusher        claims with the mark                     Ledger::ClaimPrefix, kOvertakable
//   fault         takes it, and posts the page itself      Ledger::OnFault
//   bulk lane     takes it just before bytes can land      LandingArea::Begin
//   a dead lane   what it had begun gets the mark back     LandingArea::Abandon
//   Pusher        gives back only what still has it        Pusher::GiveBack
//
// So however often a page is asked for, nothing lands in it on two lanes, and nothing at all once
// it is mapped. All else about a lane is as it is without.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "engine/core/landing_area.h"
#include "engine/core/ledger.h"

namespace faultline {

/// Larger pages are not: there is no room to throw them away, and hardly one of them in flight.
[[nodiscard]] inline bool IsOvertakable(const Geometry& geometry, PageRun run) {
  return geometry.PageSizeOf(run.first) == kSmallPageSize;
}

/// Where bytes of claims land that faults may overtake.
class OvertakableLanding final : public LandingArea {
 public:
  /// `ledger` outlives it.
  OvertakableLanding(std::unique_ptr<LandingArea> area, Ledger& ledger)
      : area_(std::move(area)), ledger_(ledger) {}

  [[nodiscard]] const Geometry& geometry() const override { return area_->geometry(); }
  std::span<std::byte> MemoryOf(PageRun run) override { return area_->MemoryOf(run); }
  [[nodiscard]] bool HasOwnMemory(PageRun run) const override { return area_->HasOwnMemory(run); }
  uint64_t Begin(PageRun run) override {
    return IsOvertakable(geometry(), run) ? ledger_.BeginLanding(run) : 0;
  }
  void Abandon(PageRun pages) override {
    if (IsOvertakable(geometry(), pages)) ledger_.AbandonLanding(pages);
  }
  bool Land(PageRun pages, std::span<const std::byte> bytes) override {
    return area_->Land(pages, bytes);
  }
  [[nodiscard]] bool full() const override { return area_->full(); }

 private:
  const std::unique_ptr<LandingArea> area_;
  Ledger& ledger_;
};

}  // namespace faultline
