// The source's side of one page lane: reads requests, asks the PageServer for a plan, and sends
// header and pages straight from guest RAM: few pages with one gathered send, long stretches with
// sendfile, which copies nothing. One thread per lane.
//
// Blocking calls, one or two per request, and shutdown(2) from another thread wakes both; an urgent
// lane looks for its next request before it sleeps, where that pays (request_wait.h). Requests that
// came together on a bulk lane are answered together: their headers leave with one call. The loop
// allocates, locks and logs nothing.
//
// A lane server ends (never the process) when the peer closes, falls silent, or sends something
// that PageServer::Plan refuses; reason() then says why.
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "engine/core/fault_cores.h"
#include "engine/core/metrics.h"
#include "engine/core/page_server.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"
#include "engine/tcp/keep_off.h"
#include "engine/tcp/packing.h"
#include "engine/tcp/request_wait.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

class LaneServer {
 public:
  struct Options {
    /// Of the migration, shared by its lanes; null: nobody keeps off anything.
    FaultCores* fault_cores = nullptr;
    /// An urgent lane waits as request_wait.h says, and each of its answers leaves by itself; any
    /// other keeps off the cores of those (keep_off.h).
    bool urgent = false;
    size_t slot = 0;  ///< of fault_cores, if urgent
    /// Requests for packed pages are answered; otherwise they end the lane.
    bool packs = false;
    /// Called once, on the lane's thread, before it serves: for its name, say.
    std::function<void()> on_start;
    /// Called once, on the lane's thread, as its last act before it ends.
    std::function<void()> on_end;
  };
  struct Stats {
    uint64_t requests = 0;
    uint64_t received_bytes = 0;
    uint64_t sent_bytes = 0;
    uint64_t pages = 0;  ///< pages answered, zero ones included
  };

  /// Starts the thread. `server` belongs to this lane alone; what it was made from outlives us.
  LaneServer(tcp::UniqueFd socket, std::unique_ptr<PageServer> server, Options options);
  LaneServer(tcp::UniqueFd socket, std::unique_ptr<PageServer> server);
  LaneServer(const LaneServer&) = delete;
  LaneServer& operator=(const LaneServer&) = delete;
  /// Stop().
  ~LaneServer();

  /// Ends the lane and joins its thread. Any thread but the lane's own; may be called again.
  void Stop();
  /// The lane has ended; reason() is valid from then on.
  [[nodiscard]] bool ended() const { return ended_.load(std::memory_order_acquire); }
  /// Why it ended, one line. REQUIRES: ended().
  [[nodiscard]] const std::string& reason() const { return reason_; }
  /// Any thread; exact after the end.
  [[nodiscard]] Stats stats() const;

 private:
  static constexpr size_t kBatchMax = 64;  ///< requests taken with one receive

  void Run();
  bool ServeOnce();
  bool ReceiveRequests();
  [[nodiscard]] wire::PageRequest RequestAt(size_t index) const;
  size_t AnswerTogether(size_t first, size_t end);
  size_t PlanTogether(size_t first, size_t end);
  size_t AnswerPacked(const wire::PageRequest& request);
  size_t Refuse(const wire::PageRequest& request);
  size_t NoteSent(bool sent, size_t count);
  bool SendAnswers(std::span<const ReplyPlan> plans);
  bool SendPacked(const ReplyPlan& plan, wire::Codec codec);
  [[nodiscard]] wire::PageReply Stamped(wire::PageReply header);
  bool SendAll(std::span<const ReplyPlan> plans, std::span<const std::byte> head);
  bool SendSegment(const ReplyPlan& plan, size_t segment);
  void Gather(std::span<const std::byte> bytes);
  bool SendGathered(int flags);
  bool SendFromFile(FilePlace place, size_t bytes);
  bool EndWith(std::string reason);

  tcp::UniqueFd socket_;
  std::unique_ptr<PageServer> server_;
  Options options_;
  std::unique_ptr<Packer> packer_;  ///< if options_.packs
  std::array<std::byte, kBatchMax * sizeof(wire::PageRequest)> inbox_{};
  size_t inbox_bytes_ = 0;
  std::array<ReplyPlan, wire::kTogetherMax> plans_;  ///< of the answers that leave together
  std::array<iovec, kRunPagesMax + 1> pieces_;       ///< that leave with one call …
  size_t gathered_ = 0;                              ///< … and how many there are
  tcp::RequestWait wait_;                            ///< if urgent
  std::optional<KeepOff> keep_off_;                  ///< else
  Nanos requests_read_{};                            ///< when the last of the inbox came
  Counter requests_;
  Counter received_bytes_;
  Counter sent_bytes_;
  Counter pages_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};
  std::string reason_;
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
