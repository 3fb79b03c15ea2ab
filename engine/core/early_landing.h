// Bytes that arrive while the source's guest still runs (early_copies.h). They lie in guest RAM's
// file, and nobody sees them before the source, its guest stopped, says that they are still right.
//
//   Land   the pages are claimed, land, and go back to Absent with the early mark. Whoever asks for
//          one takes the mark away and overwrites the page; whoever finds one empty empties it.
//   Keep   those that still have the mark are complete: no byte crosses the wire.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <utility>

#include "engine/core/landing.h"

namespace faultline {

/// Threads: one at a time.
class EarlyLanding {
 public:
  /// Puts whole pages into guest RAM's file. False: it has no room for them.
  using Write = std::function<bool(PageRun run, std::span<const std::byte> bytes)>;

  /// All parts outlive it.
  EarlyLanding(Landing::Parts parts, Write write)
      : parts_(parts), write_(std::move(write)), landing_(parts) {}

  /// Before the source's stop. From the first page on that somebody else has claimed, and where the
  /// file has no room, pages are fetched later like any other. REQUIRES: as many bytes as the run
  /// has.
  void Land(PageRun run, std::span<const std::byte> bytes);
  /// The source, stopped, vouches for `run`, of any length: what has landed of it is the guest's.
  void Keep(PageRun run);

  /// As Landing's.
  void Retry() { landing_.Retry(); }
  [[nodiscard]] bool has_retries() const { return landing_.has_retries(); }
  [[nodiscard]] bool guest_gone() const { return landing_.guest_gone(); }

 private:
  Landing::Parts parts_;
  const Write write_;
  Landing landing_;
};

}  // namespace faultline
