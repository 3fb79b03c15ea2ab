// Applies the source's final maps to the ledger on a thread of its own: what it has no memory for,
// and which of the pages that came early are still right. Neither may stand in the way of the
// device state that shares the control lane.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "engine/app/destination_pages.h"

namespace faultline {

class FinalMaps {
 public:
  explicit FinalMaps(DestinationPages& pages);
  FinalMaps(const FinalMaps&) = delete;
  FinalMaps& operator=(const FinalMaps&) = delete;
  ~FinalMaps() { Stop(); }

  // Any thread. False: the runs of this kind do not rise over all calls, so nothing bounds them.
  [[nodiscard]] bool AddHoles(std::vector<PageRun> runs) {
    return Add({Kind::kHoles, std::move(runs)});
  }
  [[nodiscard]] bool AddUnchanged(std::vector<PageRun> runs) {
    return Add({Kind::kUnchanged, std::move(runs)});
  }
  /// Drops what is left and joins. May be called again.
  void Stop();

 private:
  enum class Kind : uint8_t { kHoles, kUnchanged };
  struct Part {
    Kind kind;
    std::vector<PageRun> runs;
  };
  static constexpr size_t kKinds = 2;
  static constexpr Nanos kRetryPause = std::chrono::milliseconds(1);

  bool Add(Part part);
  void Run();
  void Apply(const Part& part);

  DestinationPages& pages_;
  std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  std::deque<Part> queue_;
  std::array<PageIndex, kKinds> next_;  ///< of each kind: where its runs may go on
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
