// How far the migration is, for a person: one line rewritten in place on a terminal, a plain line
// now and then elsewhere, nothing with --quiet.
#pragma once

#include <mutex>
#include <string>

#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline {

/// Threads: any. The session tells steps, the thread that reads the link tells numbers.
class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress();  ///< ends the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// A step of the hand-over, in words ("attached", "guest stopped").
  void Step(const std::string& what);
  /// The state of the pages. Shown at most ten times a second on a terminal, else once a second.
  void Update(const wire::ProgressBody& body, Nanos now);

 private:
  void EndLine();
  [[nodiscard]] std::string Line(const wire::ProgressBody& body) const;

  const bool quiet_;
  const bool terminal_;
  std::mutex mutex_;  ///< guards all below
  bool line_open_ = false;
  Nanos shown_at_{};
  Nanos rate_at_{};
  uint64_t rate_bytes_ = 0;
  double bytes_per_second_ = 0;
};

}  // namespace faultline
