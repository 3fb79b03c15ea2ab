// Guest RAM for tests: anonymous memory in the shape of a geometry, filled from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/landing_area.h"
#include "engine/core/page_server.h"
#include "engine/core/source_memory.h"
#include "engine/core/units.h"

namespace faultline::test {

using Random = std::mt19937_64;

/// From FAULTLINE_SEED, or random; printed, so that a failure can be replayed.
uint64_t Seed();

/// 4 KiB pages, then 2 MiB pages, then a region of an odd number of 4 KiB pages.
const Geometry& MixedGeometry();
/// One small region of 4 KiB pages.
const Geometry& SmallGeometry();

/// Owns the memory; everything is zero.
class GuestRam {
 public:
  explicit GuestRam(const Geometry& geometry);
  GuestRam(const GuestRam&) = delete;
  GuestRam& operator=(const GuestRam&) = delete;
  ~GuestRam();

  [[nodiscard]] const RamWindow& window() const { return *window_; }
  /// In place: what is received is in the window.
  [[nodiscard]] LandingArea& landing() { return *landing_; }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] std::span<std::byte> Page(PageIndex page) const {
    return window_->BytesOf({page, PageCount(1)});
  }
  void FillWith(std::byte value);
  [[nodiscard]] uint64_t Hash() const;

 private:
  const Geometry& geometry_;
  std::vector<std::span<std::byte>> mappings_;
  std::unique_ptr<RamWindow> window_;
  std::unique_ptr<AliasLanding> landing_;
};

/// Every byte is `value`. Quick, under the sanitizers too.
bool IsFilledWith(std::span<const std::byte> bytes, std::byte value);

/// A source's guest: data pages, zero pages, and holes that only the reader may touch.
class SourceGuest final : public PageReader {
 public:
  SourceGuest(const Geometry& geometry, uint64_t seed);
  [[nodiscard]] const GuestRam& ram() const { return ram_; }
  [[nodiscard]] std::unique_ptr<PageServer> MakeServer();
  /// No page is perhaps a hole: none is copied.
  void MarkAllPresent() { presence_.MarkPresent({PageIndex(0), ram_.geometry().page_count()}); }

 private:
  bool Read(PageRun run, std::span<std::byte> out) override;

  GuestRam ram_;
  PresenceMap presence_;
};

/// Requestable runs that cover every page once, cut at random, in random order.
std::vector<PageRun> RandomCover(const Geometry& geometry, Random& random);

}  // namespace faultline::test
