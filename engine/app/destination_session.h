// One migration, as the destination lives it: the conversation of wire.h and the phases of
// phases.h around DestinationPages.
//
//   main thread      Run(): the passes, in order
//   acceptor         connections: control, urgent, bulk; also after a link was lost
//   control link     reads frames: device state, holes and Stopped are acted on there, the
//                    hand-over's steps go to the main thread's inbox
//   maps thread      the source's final maps, off the device state's way
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/app/control_link.h"
#include "engine/app/destination_pages.h"
#include "engine/app/device_stream.h"
#include "engine/app/final_maps.h"
#include "engine/app/inbox.h"
#include "engine/app/lane_acceptor.h"
#include "engine/app/options.h"
#include "engine/app/phase_keeper.h"
#include "engine/app/progress.h"
#include "engine/core/rdma_wire.h"
#include "engine/core/wire_codec.h"
#include "qemu-integration/qemu_vm.h"

namespace faultline {

class DestinationSession {
 public:
  DestinationSession(const ReceiveOptions& options, QemuDestination& vm, Listener listener);
  ~DestinationSession();

  /// The whole migration. Used once.
  ExitCode Run();

 private:
  // The passes, in order.
  Status AwaitHello();
  Status CompareGuests();
  Status AttachPages();
  Status MakeRoom();
  Status AwaitPreparing(wire::FrameType type);
  Status AnswerOffer();
  Status AcceptOffer();
  [[nodiscard]] bool MayRead() const;
  Status LoadDevices();
  Status AwaitGo();
  Status RunGuest();
  Status AwaitPages();
  Status Release();
  void Afterwards();

  Status Prepare();
  Status HandOver();
  ExitCode GiveUp(const Error& error);
  Status CheckAlive() const;
  Status CheckGuest() const;
  void ForgetSource(const Error& error);
  [[nodiscard]] uint32_t FaultShards() const;
  void ReportProgress();
  void WriteSummaryFile() const;

  // On the acceptor's thread.
  wire::PreambleStatus Judge(const LaneIntroduction& introduction);
  void Take(const LaneIntroduction& introduction, Connection connection);
  // On the control link's thread.
  void OnFrame(const Frame& frame);
  void OnLost(const Error& error);
  Status ActOn(const Frame& frame);
  Status TakeExtents(const Frame& frame);
  Status TakeFirstPages(const Frame& frame);
  Status TakeEarlyPages(const Frame& frame);
  Status TakeUnchanged(const Frame& frame);
  Status TakeDeviceState(const Frame& frame);
  Status TakeStopped();
  Status TakeSaved();
  Status TakeHoles(const Frame& frame);
  Status TakeRdmaRegions(const Frame& frame);
  Status TakeRdmaOffer(const Frame& frame);
  Status TakeRdmaCurrent(const Frame& frame);
  Status NotNow(wire::FrameType type) const;
  bool AreAttached();
  bool TakesEarly();

  [[nodiscard]] DestinationPhase phase() const { return phase_.phase(); }
  void Advance(DestinationEvent event) { phase_.Advance(event); }

  const ReceiveOptions options_;
  QemuDestination& vm_;
  MonotonicClock clock_;
  Progress progress_;
  Nanos progress_at_{};
  std::atomic<Nanos::rep> heard_at_{0};  ///< the last frame
  PhaseKeeper<DestinationPhase, DestinationEvent> phase_;

  std::optional<wire::Hello> hello_;
  DestinationNumbers numbers_;
  SummaryJson summary_;
  std::vector<size_t> huge_regions_;            ///< those that the kernel would map by huge pages
  std::vector<PageRun> extents_;                ///< the control link's thread's until ExtentsDone
  std::vector<wire::RdmaRegion> rdma_regions_;  ///< likewise
  std::optional<wire::RdmaOffer> rdma_offer_;   ///< likewise
  Inbox inbox_;

  std::mutex mutex_;  ///< guards the migration's identity, and the making of pages_
  std::optional<wire::MigrationId> migration_;
  std::map<std::pair<LaneKind, uint32_t>, uint64_t> generations_;

  std::unique_ptr<DestinationPages> pages_;
  std::unique_ptr<FinalMaps> maps_;
  std::unique_ptr<ControlLink> link_;
  DeviceStream device_stream_;
  std::unique_ptr<LaneAcceptor> acceptor_;  ///< last: its thread uses all of the above
};

}  // namespace faultline
