// A lane whose peer does nothing: pages are read from its memory, one-sided. It cannot bring every
// page (what the peer has not registered, or what it cannot vouch for), so it never stands alone:
// routed_channel.h puts a served lane beside it.
#pragma once

#include <memory>

#include "engine/core/page_channel.h"

namespace faultline {

/// The first pages of a run, and which way they go.
struct Route {
  PageRun run;
  bool direct = false;
};

/// Used by one thread.
class DirectChannel : public PageChannel {
 public:
  /// The longest prefix of `run` that goes one way; direct: one Post of it is possible now.
  /// REQUIRES: the run is not empty.
  [[nodiscard]] virtual Route RouteOf(PageRun run) const = 0;
};

/// Where direct lanes come from. Both on the lane's thread.
class DirectLanes {
 public:
  virtual ~DirectLanes() = default;
  /// A lane that is ready, if there is one. Called often: it must cost nothing.
  virtual std::unique_ptr<DirectChannel> TakeDirect() = 0;
  /// The one taken last is gone; another would be welcome.
  virtual void NoteDirectLost() = 0;
};

}  // namespace faultline
