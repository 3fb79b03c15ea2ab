// Where the guest's page faults come from. Implemented by uffd/ and by the simulation.
#pragma once

#include <cstdint>
#include <span>

#include "engine/core/units.h"

namespace faultline {

/// A thread of the guest sleeps until `page` is mapped.
struct Fault {
  PageIndex page;
  /// The kernel's hint who sleeps; 0 if unknown. KVM's async page faults name kernel workers.
  int32_t thread = 0;
};

/// What one read brought: sorted, each page once. Valid until the next Read().
struct FaultBatch {
  std::span<const PageRun> removed;  ///< given up by the guest; handle before `faults`
  std::span<const Fault> faults;
  bool more = false;  ///< the buffer was full: read again before waiting
  bool gone = false;  ///< the guest's process has ended
};

/// One shard's events. Used by one thread.
class FaultSource {
 public:
  virtual ~FaultSource() = default;
  /// Never blocks, never allocates. A REMOVE is read before any later fault in its range.
  virtual FaultBatch Read() = 0;
  /// The faults of the last Read() have been seen to: what nobody waits for may be done.
  virtual void NoteAnswered() {}
  /// Readable when Read() has something.
  [[nodiscard]] virtual int WaitFd() const = 0;
};

}  // namespace faultline
