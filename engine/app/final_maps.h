// Applies the source's final maps to the ledger on a thread of its own: what it has no memory for,
// and which of the pages that came early are still right. Neither may stand in the way of the
// device state that shares the control lane.
#pragma once

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

  // Any thread. The total is bounded by the geometry: runs rise and do not overlap.
  void AddHoles(std::vector<PageRun> runs) { Add({Kind::kHoles, std::move(runs)}); }
  void AddUnchanged(std::vector<PageRun> runs) { Add({Kind::kUnchanged, std::move(runs)}); }
  /// Drops what is left and joins. May be called again.
  void Stop();

 private:
  enum class Kind : uint8_t { kHoles, kUnchanged };
  struct Part {
    Kind kind;
    std::vector<PageRun> runs;
  };
  void Add(Part part);
  void Run();
  void Apply(const Part& part);

  DestinationPages& pages_;
  std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  std::deque<Part> queue_;
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
