// One migration, as the source lives it: the conversation of wire.h and the phases of phases.h.
// Before the commit any failure resumes the guest, by itself; after it the guest never runs here
// again, and this process serves pages until the destination has them all.
//
//   main thread      Run(): the passes, in order
//   control link     reads frames: device state's return path, progress; the rest to the inbox
//   lane keepers     one thread that dials and one that serves for each page lane
//   hole scan        once the guest runs there: what the source does not have
//   after stop       once the VMM wrote its devices: which early pages are still right
//                    (source_early.cc)
//   current scan     beside it: what may be read (source_reads.cc)
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "engine/app/control_link.h"
#include "engine/app/device_stream.h"
#include "engine/app/inbox.h"
#include "engine/app/lane_keeper.h"
#include "engine/app/monotonic_clock.h"
#include "engine/app/options.h"
#include "engine/app/phase_keeper.h"
#include "engine/app/progress.h"
#include "engine/app/readable_ram.h"
#include "engine/app/summary.h"
#include "engine/core/early_copies.h"
#include "engine/core/source_memory.h"
#include "engine/core/wire_codec.h"
#include "qemu-integration/qemu_vm.h"
#include "uffd/alias_mapping.h"
#include "uffd/guest_ram.h"
#include "uffd/page_table_keeper.h"

namespace faultline {

class SourceSession {
 public:
  SourceSession(const MigrateOptions& options, QemuSource& vm, Endpoint to);
  ~SourceSession();

  /// The whole migration. Used once.
  ExitCode Run();

 private:
  // The passes, in order.
  Status OpenRam();
  Status Connect();
  Status OpenLanes();
  Status OfferReads();
  Status SendExtents();
  Status AwaitRoom();
  Status StopGuest();
  Status MoveDevices();
  Status Commit();
  void AwaitStarted();
  void ServePages();
  void Release();

  Status Prepare();
  Status HandOver();
  ExitCode GiveUp(const Error& error);
  Status CheckLink(Nanos deadline);
  Status DialControl(Nanos timeout);
  void SendAbort(const std::string& why);
  void KeepLink(const Error& error);
  void Redial();
  Status SendRuns(wire::FrameType type, const std::vector<PageRun>& runs);
  void LookAhead();
  void CopyFirstPages();
  Status SendFirstPages();
  Status SendEarlyPages();
  void SendWhatIsFinal(ByteCount before);
  void AwaitSaved(ByteCount before);
  void SendUnchanged();
  void SendHoles();
  void JoinScans();
  Result<Message> AwaitPreparing(wire::FrameType type);
  Status MakeReadable();
  Status TakeAnswer();
  Status DoWithoutReads(const Error& why);
  void SendCurrent();
  void StopReads();
  void OnFrame(const Frame& frame);
  void OnLost(const Error& error);

  [[nodiscard]] SourcePhase phase() const { return phase_.phase(); }
  void Advance(SourceEvent event) { phase_.Advance(event); }

  static constexpr Nanos kDialTimeout = std::chrono::seconds(10);

  const MigrateOptions options_;
  QemuSource& vm_;
  const Endpoint to_;
  MonotonicClock clock_;
  Progress progress_;
  PhaseKeeper<SourcePhase, SourceEvent> phase_;
  wire::MigrationId migration_;
  uint64_t control_generation_ = 0;
  SourceNumbers numbers_;
  SummaryJson destination_part_ = SummaryJson::object();
  Nanos started_at_;
  int64_t stopped_at_us_ = 0;            ///< QEMU's STOP event, wall clock of this host
  std::atomic<Nanos::rep> heard_at_{0};  ///< last sign of life, for the long wait of MakeRoom

  std::unique_ptr<const Geometry> geometry_;
  std::optional<GuestRam> ram_;
  std::optional<PageTableKeeper> page_tables_;
  std::unique_ptr<PresenceMap> presence_;
  FirstPlaces first_places_;  ///< of LookAhead
  std::optional<AliasMapping> early_memory_;
  std::optional<EarlyCopies> early_;       ///< from CopyFirstPages until they are compared
  std::unique_ptr<ReadableRam> readable_;  ///< nothing: pages go over TCP
  std::string local_host_;                 ///< where the control connection leaves from
  std::vector<PageRun> extents_;           ///< until they are sent
  Inbox inbox_;
  uint32_t urgent_lanes_ = 1;  ///< as the destination wants them
  FaultCores fault_cores_;  ///< the urgent lanes': whatever else works while pages move keeps off
  std::vector<std::unique_ptr<LaneKeeper>> lanes_;
  std::unique_ptr<ControlLink> link_;
  DeviceStream device_stream_;
  std::thread hole_scan_;
  std::thread after_stop_;    ///< from the stop on: SendWhatIsFinal
  std::thread current_scan_;  ///< started by it: what may be read
};

}  // namespace faultline
