// Applies the source's final hole map to the ledger on a thread of its own: a map of a large
// sparse guest must not stand in the way of the device state that shares the control lane.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/app/destination_pages.h"

namespace faultline {

class HoleSweep {
 public:
  explicit HoleSweep(DestinationPages& pages);
  HoleSweep(const HoleSweep&) = delete;
  HoleSweep& operator=(const HoleSweep&) = delete;
  ~HoleSweep() { Stop(); }

  /// Any thread. The total is bounded by the geometry: runs rise and do not overlap.
  void Add(std::vector<PageRun> runs);
  /// Drops what is left and joins. May be called again.
  void Stop();

 private:
  void Run();

  DestinationPages& pages_;
  std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  std::deque<std::vector<PageRun>> queue_;
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
