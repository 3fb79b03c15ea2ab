// Applies the source's final maps to the ledger on a thread of its own: what it has no memory for,
// and which of the pages that came early are still right. Neither may stand in the way of the
// device state that shares the control lane; and the holes, thousands of them, not in that of the
// guest's first instants either: they wait while the pushers pause.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/app/destination_pages.h"
#include "engine/tcp/keep_off.h"

namespace faultline {

class FinalMaps {
 public:
  explicit FinalMaps(DestinationPages& pages);
  FinalMaps(const FinalMaps&) = delete;
  FinalMaps& operator=(const FinalMaps&) = delete;
  ~FinalMaps() { Stop(); }

  // Any thread. False: the runs of this kind do not rise over all calls, so nothing bounds them.
  [[nodiscard]] bool AddHoles(std::vector<PageRun> runs) {
    return Add(Kind::kHoles, std::move(runs));
  }
  [[nodiscard]] bool AddUnchanged(std::vector<PageRun> runs) {
    return Add(Kind::kUnchanged, std::move(runs));
  }
  /// Drops what is left and joins. May be called again.
  void Stop();

 private:
  using Runs = std::vector<PageRun>;
  enum class Kind : uint8_t { kUnchanged, kHoles };
  static constexpr size_t kKinds = 2;
  struct Part {
    Kind kind;
    Runs runs;
  };
  struct Queue {
    std::deque<Runs> parts;
    PageIndex next;  ///< where the next part may begin
  };
  static constexpr Nanos kRetryPause = std::chrono::milliseconds(1);
  static constexpr Nanos kIdle = std::chrono::seconds(1);

  bool Add(Kind kind, Runs runs);
  [[nodiscard]] Queue& QueueOf(Kind kind) { return queues_[static_cast<size_t>(kind)]; }
  void Run();
  // Under the mutex.
  [[nodiscard]] bool IsDue(Kind kind);
  [[nodiscard]] bool HasDue() { return IsDue(Kind::kUnchanged) || IsDue(Kind::kHoles); }
  [[nodiscard]] Nanos WaitLimit(bool retries);
  [[nodiscard]] std::optional<Part> TakeDue();
  // Without it.
  void Apply(const Part& part);

  DestinationPages& pages_;
  KeepOff keep_off_;  ///< the thread's
  std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  std::array<Queue, kKinds> queues_;  ///< one for each kind
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
