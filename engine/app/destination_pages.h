// The pages of a guest that arrives: its RAM, its ledger, the threads that fetch and place.
//
//   fault threads   FaultLoop, one for each shard, on its urgent lane
//   push threads    Pusher, one for each bulk lane
//
// The threads run from the start, but get no lane before Open(): until the source has stopped its
// guest, what a page holds can still change.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/app/attachment.h"
#include "engine/app/lane_thread.h"
#include "engine/app/ledger_file.h"
#include "engine/app/memory_ahead.h"
#include "engine/app/monotonic_clock.h"
#include "engine/app/options.h"
#include "engine/app/read_lanes.h"
#include "engine/app/summary.h"
#include "engine/core/bulk_window.h"
#include "engine/core/early_landing.h"
#include "engine/core/fault_loop.h"
#include "engine/core/overtakable_landing.h"
#include "engine/core/pusher.h"
#include "engine/core/retired_blocks.h"
#include "engine/core/shard_map.h"
#include "engine/core/wire.h"
#include "engine/tcp/tcp_reactor.h"
#include "uffd/core_follower.h"
#include "uffd/guest_ram.h"
#include "uffd/huge_collapse.h"
#include "uffd/page_table_keeper.h"
#include "uffd/sharded_placer.h"
#include "uffd/staged_landing.h"
#include "uffd/uffd_fault_source.h"

namespace faultline {

struct PageLimits {
  IoPreference io = IoPreference::kBest;
  std::optional<ByteCount> window;  ///< bulk bytes in flight, all streams; none: as the link wants
  uint64_t bulk_bytes_per_second = 0;
  uint32_t streams = 1;
  size_t fault_shards = 1;
  bool may_read = false;                                    ///< lanes of READs may be added
  wire::Compression compression = wire::Compression::kOff;  ///< of what the bulk lanes bring
};

/// Threads: every method from any thread unless it says otherwise.
class DestinationPages {
 public:
  static constexpr ByteCount kPopulatePiece{64 * 1024 * 1024};
  static constexpr Nanos kFirstInstants = std::chrono::milliseconds(3);
  static constexpr Nanos kLoadingMost = std::chrono::milliseconds(50);

  /// Attaches to the VMM and starts the threads. `vm` and `unprivileged` are used here only.
  static Result<std::unique_ptr<DestinationPages>> Create(
      const VmDescription& vm, const Attachment::UnprivilegedWay& unprivileged, Geometry geometry,
      const std::string& state_dir, const PageLimits& limits);
  ~DestinationPages();

  /// A connected page lane. Kept back until Open() or OpenBulk().
  void GiveLane(LaneKind kind, uint32_t stream, tcp::UniqueFd socket);
  /// What the guest will touch first: pushed before all else, pause or not. Before Open.
  void PutFirst(std::span<const PageRun> runs) { leading_.Put(runs); }
  /// The source's guest is stopped: fault lanes may fetch.
  void Open();
  /// So may bulk lanes. After Open; at the latest when the guest runs. May be called again.
  void OpenBulk();
  [[nodiscard]] bool is_open();
  /// The guest's devices are about to be loaded: the pushers pause until it runs, kLoadingMost at
  /// the most.
  void MakeWay() { push_pause_.Until(clock_.Now() + kLoadingMost); }
  [[nodiscard]] Nanos PauseLeft() const { return push_pause_.Left(clock_.Now()); }
  /// The blackout ends: the pause goes on for kFirstInstants, afterwards memory is registered
  /// again, and if OpenBulk was not called, it is now.
  void GuestRuns();
  /// Bytes from before the source's stop (early_landing.h). One thread, before Open().
  void LandEarly(PageRun run, std::span<const std::byte> bytes);
  /// The source, stopped, vouches for what has landed early in `run`. The thread of SweepHoles.
  void KeepEarly(PageRun run) { early_.Keep(run); }
  /// The source has nothing in `run`: it is never asked for. One thread.
  void SweepHoles(PageRun run) { sweep_.SweepHoles(run); }
  /// What SweepHoles and KeepEarly could not map yet. True: something is left. Their thread.
  bool RetryMaps();
  /// What the source has: there must be room for it, it is pushed first, and memory for it that
  /// comes in huge pages is allocated ahead of need: hugetlbfs before this returns (afterwards its
  /// pool could be empty), tmpfs from now on (memory_ahead.h). `on_piece` runs after
  /// each kPopulatePiece at the latest, however long the runs: for signs of life, and to stop with
  /// its error. Once, before Open(); `runs` as SequentialOrder::PutFirst wants them.
  Status Expect(std::span<const PageRun> runs, const std::function<Status()>& on_piece);
  /// Until most guests' memory is there. `on_slice` as above. After Expect, before Open().
  Status AwaitHeadStart(const std::function<Status()>& on_slice) const {
    return memory_ahead_.AwaitHeadStart(on_slice);
  }

  /// Adds lanes of READs beside all page lanes. An error: pages come over TCP. Once, before
  /// Open(). REQUIRES: may_read.
  Status ReadFrom(ReadLanes::Plan plan);
  /// The source vouches for what it has registered in `runs`.
  void MarkCurrent(std::span<const PageRun> runs);

  /// Whatever works while pages move keeps off them.
  [[nodiscard]] const FaultCores& fault_cores() const { return fault_cores_; }
  [[nodiscard]] const Geometry& geometry() const { return *geometry_; }
  [[nodiscard]] PageCount missing() const { return ledger_.missing(); }
  [[nodiscard]] bool guest_gone() const;
  [[nodiscard]] wire::ProgressBody progress() const;

  /// Every page is there: the kernel takes over and no userfaultfd is left; whoever sleeps on a
  /// page is woken. The threads may still run. REQUIRES: missing() is zero, or no device state was
  /// loaded. One thread.
  Status Detach();
  /// Guest RAM is as empty as it was found: this VMM can wait for another source. REQUIRES: Detach,
  /// StopThreads, and no device state was loaded.
  [[nodiscard]] Status EmptyRam();
  /// Ends the threads and their lanes. Without Detach, QEMU's userfaultfd stays registered: a guest
  /// with missing pages then waits for ever and never reads wrong bytes. One thread.
  void StopThreads();
  /// Afterwards: what has arrived in small pages is mapped by huge ones, until `stop` says so or
  /// the time is up. `regions` of RegionsForHugePages. REQUIRES: Detach, StopThreads.
  CollapseReport Collapse(std::vector<size_t> regions, const std::function<bool()>& stop) const {
    return HugeCollapse(attachment_.process(), ram_, std::move(regions)).Run({}, stop);
  }

  /// Exact when nothing is missing any more: waits for the steps that brought the last pages.
  [[nodiscard]] SummaryJson Summary(DestinationNumbers numbers) const;

 private:
  struct ThreadMetrics {
    FaultMetrics faults;
    LandingMetrics landing;
  };

  DestinationPages(std::unique_ptr<const Geometry> geometry, GuestRam ram, VmmMap map,
                   const ShardMap& shards, Attachment attachment, LedgerFile ledger_file);
  Status StartThreads(const PageLimits& limits);
  Status StartFaultThreads(const PageLimits& limits);
  void RingFaultThreads();
  Status StartPushThreads(const PageLimits& limits, const PusherLimits& share);
  std::unique_ptr<LaneHost> MakeHost(std::unique_ptr<TcpReactor> reactor,
                                     std::unique_ptr<LandingArea> area,
                                     std::unique_ptr<Unpacker> unpacker, bool urgent,
                                     bool may_read);
  [[nodiscard]] ReadNumbers Reading() const;
  /// hugetlbfs: what turns out to be zero gives its memory back, hence the touched mark. tmpfs
  /// needs none: a hole in a huge folio frees nothing and splits it, and it reads as zero as it is.
  Status Populate(PageRun rest, const std::function<Status()>& on_piece);
  bool WriteEarly(PageRun run, std::span<const std::byte> bytes);
  Landing::Parts PartsFor(ThreadMetrics& metrics);
  [[nodiscard]] PusherLimits ShareOf(const PageLimits& limits);
  void OpenKept(LaneKind kind);
  /// Under the mutex.
  [[nodiscard]] bool& OpenFlag(LaneKind kind) {
    return kind == LaneKind::kUrgent ? open_ : bulk_open_;
  }

  // In the order in which each needs the ones before it.
  const std::unique_ptr<const Geometry> geometry_;
  GuestRam ram_;
  PageTableKeeper page_tables_;
  VmmMap map_;
  const ShardMap shards_;
  Attachment attachment_;
  LedgerFile ledger_file_;
  Ledger ledger_;
  WaiterTable waiters_;
  MonotonicClock clock_;
  ShardedPlacer placer_;
  RetiredBlocks blocks_;
  SequentialOrder order_;
  LeadingOrder leading_;  ///< before order_
  PushPause push_pause_;
  FaultCores fault_cores_;                 ///< where the followers are
  std::optional<BulkWindow> bulk_window_;  ///< from StartThreads on
  MemoryAhead memory_ahead_;
  std::vector<std::unique_ptr<ThreadMetrics>> metrics_;  ///< fault threads', then push threads'
  ThreadMetrics sweep_metrics_;
  Landing sweep_;
  ThreadMetrics early_metrics_;
  EarlyLanding early_;
  std::atomic<uint64_t> early_bytes_{0};  ///< that have crossed the wire
  std::mutex early_mutex_;                ///< no page lands early once guest RAM is emptied
  bool early_over_ = false;
  std::vector<std::unique_ptr<CoreFollower>> followers_;   ///< one for each shard
  std::vector<std::unique_ptr<UffdFaultSource>> sources_;  ///< one for each shard
  std::unique_ptr<ReadLanes> reads_;         ///< outlives the lanes, which work with its memory
  std::vector<RoutedLaneHost*> read_hosts_;  ///< the fault threads', then the push threads'
  std::vector<std::unique_ptr<LaneThread<FaultLoop>>> fault_threads_;
  std::atomic<bool> can_ring_{false};  ///< all fault threads are there
  std::vector<std::unique_ptr<LaneThread<Pusher>>> push_threads_;

  std::mutex mutex_;  ///< guards all below
  bool open_ = false;
  bool bulk_open_ = false;
  struct KeptLane {
    LaneKind kind;
    uint32_t stream;
    tcp::UniqueFd socket;
  };
  std::vector<KeptLane> kept_;
};

}  // namespace faultline
