// The destination's lanes of READs: dials one for each page lane, builds it again when it is lost,
// and registers the guest's RAM ahead of what is read.
//
//   keeper     dials lanes that were lost, with growing pauses; gives one up after kTriesMax in a
//              row. Its pages come over TCP meanwhile, and for good then
//   registrar  registers the alias, region by region, in the order of the pushers; rests during
//              the blackout, and while the guest's first instants last
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/app/file_sink.h"
#include "engine/app/monotonic_clock.h"
#include "engine/app/routed_lane_host.h"
#include "engine/core/metrics.h"
#include "engine/core/push_pause.h"
#include "engine/core/rdma_wire.h"
#include "rdma/dial.h"
#include "rdma/landing_pool.h"
#include "rdma/local_regions.h"
#include "rdma/remote_table.h"

namespace faultline {

class ReadLanes {
 public:
  struct Plan {
    rdma::DialPlan dial;  ///< where the source listens, and from which of our devices
    uint8_t urgent_type_of_service = 0;
    uint8_t bulk_type_of_service = 0;
    wire::MigrationId migration{};
    std::vector<wire::RdmaRegion> regions;
  };
  struct Parts {
    const GuestRam& ram;
    const PushPause& pause;
    std::vector<RoutedLaneHost*> hosts;  ///< the urgent lanes', then the bulk lanes'
    size_t urgent_count = 1;
  };
  static constexpr int kTriesMax = 5;

  /// Dials every lane once: an error is a reason to do without. What `parts` names outlives this.
  static Result<std::unique_ptr<ReadLanes>> Create(Plan plan, Parts parts);
  ReadLanes(const ReadLanes&) = delete;
  ReadLanes& operator=(const ReadLanes&) = delete;
  ~ReadLanes() { StopThreads(); }

  /// Begins to register; a region for which `wanted` says no is left out. Once.
  void RegisterAhead(std::function<bool(PageRun)> wanted);
  /// Between the source's stop and the guest's first instruction nothing is registered: that is the
  /// blackout, and what lands meanwhile lands in the pool.
  void HoldRegistering(bool hold);
  /// The source vouches for `run`: lanes may read it. Any thread.
  void MarkCurrent(PageRun run) { table_.MarkCurrent(run); }
  /// No lane is dialled and nothing registered any more. Before the lanes' threads stop.
  void StopThreads();
  /// Gives the memory back. REQUIRES: StopThreads; the lanes are gone.
  void Release() { local_->Release(); }

  [[nodiscard]] const std::string& device() const { return reader_.limits.device; }
  [[nodiscard]] ByteCount read_bytes() const;
  /// The most that was pinned, pools included.
  [[nodiscard]] ByteCount pinned() const;
  [[nodiscard]] Nanos registering() const {
    return Nanos(registering_.load(std::memory_order_relaxed));
  }
  [[nodiscard]] uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }
  /// Every lane reads.
  [[nodiscard]] bool are_reading() const;

 private:
  static constexpr Nanos kPauseFirst = std::chrono::milliseconds(50);
  static constexpr Nanos kProven = std::chrono::seconds(5);  ///< a lane that lived that long

  struct Lane {
    RoutedLaneHost* host = nullptr;
    wire::LaneIdentity identity;
    std::unique_ptr<rdma::LandingPool> pool;
    std::unique_ptr<FileSink> sink;
    Counter read_bytes;
    // Guarded by mutex_:
    bool is_lost = false;
    int tries = 0;  ///< in a row
    Nanos dialled_at{0};
    Nanos next_try{0};
  };

  ReadLanes(Plan plan, Parts parts, rdma::Reader reader);
  Status Open();
  Result<rdma::Connection> Dial(Lane& lane);
  void Give(Lane& lane, rdma::Connection connection);
  void NoteLost(Lane& lane);
  void KeepLanes();
  Lane* NextLost(Nanos now);
  void Retry(Lane& lane);
  void RegisterRegions();
  [[nodiscard]] bool Rest();

  const Plan plan_;
  const Parts parts_;
  MonotonicClock clock_;
  rdma::Reader reader_;
  rdma::RemoteTable table_;
  std::unique_ptr<rdma::LocalRegions> local_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::function<bool(PageRun)> wanted_;
  std::atomic<Nanos::rep> registering_{0};
  std::atomic<uint64_t> lost_{0};
  std::atomic<uint64_t> pinned_{0};

  std::mutex mutex_;  ///< guards stopping_ and the lanes' state
  std::condition_variable changed_;
  bool stopping_ = false;
  bool held_ = false;
  std::thread keeper_;
  std::thread registrar_;  ///< last, with keeper_: they use all of the above
};

}  // namespace faultline
