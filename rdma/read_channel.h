// A page lane of one-sided READs on a reliably connected queue pair. The source's processor does
// nothing: its device answers from registered memory.
//
// A run is read into the alias where that is registered, else into the pool and written into the
// file when it is complete. READs of a queue pair complete in the order in which they were posted
// (IBTA 1.4, 10.8.3.3), so a completion stands for all READs before it: only some are signalled,
// and the last of each batch always is.
//
// Broken, for good: a completion with an error (a wrong key, a READ past the end, the peer gone
// after kRetryCount attempts), the connection's end, or silence: READs outstanding and none
// complete for kSilenceMax, which some devices never notice by themselves.
//
//   rdma/dial.cc              set-up
//   read_channel.cc           the lane's life
//   read_channel_datapath.cc  post → doorbell → completion → reap
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/core/direct_channel.h"
#include "engine/core/metrics.h"
#include "rdma/dial.h"
#include "rdma/landing_pool.h"
#include "rdma/local_regions.h"
#include "rdma/queue_pair.h"
#include "rdma/read_reactor.h"
#include "rdma/remote_table.h"

namespace faultline::rdma {

/// Used by one thread: its reactor's.
class ReadChannel final : public DirectChannel {
 public:
  static constexpr Nanos kSilenceMax = std::chrono::seconds(5);
  /// Small READs that may go without a completion of their own, and their bytes: a page that
  /// somebody waits for must not wait long for READs behind it.
  static constexpr int kUnsignalledMax = 8;
  static constexpr uint64_t kUnsignalledBytesMax = 64 * 1024;
  static_assert(kSendDepth >= 2 * kUnsignalledMax);

  /// Where pages come from and where they go. All outlive the lane.
  struct Memory {
    const RemoteTable& remote;
    const LocalRegions& local;
    const RamWindow& alias;
    LandingPool& pool;
    PageSink& sink;
    ByteCount message_bytes_max;  ///< of the device
    Counter& read_bytes;          ///< counts on, over all lanes that work with this memory
  };

  ReadChannel(Connection connection, Memory memory, ReadReactor& reactor);
  ~ReadChannel() override;

  [[nodiscard]] Route RouteOf(PageRun run) const override;
  [[nodiscard]] size_t Room() const override { return kReadsMax - (posted_ - reaped_); }
  void Post(PageRun run) override;
  /// Looks as well: where the device is quick, or works in our call, the pages are there.
  void SendNow() override;
  size_t Reap(std::span<Arrival> out) override;
  [[nodiscard]] LaneHealth Health() const override {
    return broken_ ? LaneHealth::kBroken : LaneHealth::kOpen;
  }
  void Close() override;
  [[nodiscard]] std::span<const PageRun> Unanswered() const override;
  /// Bytes of pages that were read: what headers take is the device's secret.
  [[nodiscard]] ByteCount WireBytes() const override { return ByteCount(read_bytes_); }
  /// Why it is broken: a constant, for a log line.
  [[nodiscard]] const char* reason() const { return reason_; }

  // For the reactor.
  /// One doorbell for all that is queued.
  void Flush(Nanos now);
  /// Takes completions that are there.
  void Poll();
  /// Has the next completion announced; true if some came before that took effect.
  bool AskForEvent();
  void OnCompletionEvent();
  void OnLinkEvent();
  [[nodiscard]] bool HasNews() const { return broken_ || completed_ > reaped_; }
  [[nodiscard]] bool awaits_completion() const { return completed_ < flushed_; }
  /// READs took less than that of late.
  [[nodiscard]] bool IsExpectedWithin(Nanos time) const { return typical_ <= time; }
  [[nodiscard]] int completion_fd() const { return connection_.completions->fd; }
  [[nodiscard]] int link_fd() const { return connection_.events->fd; }

 private:
  /// One READ.
  struct Piece {
    PageRun run;
    uint32_t bytes = 0;
    bool pooled = false;
    RingSpace::Piece room;  ///< in the pool
  };
  static constexpr size_t kMask = kReadsMax - 1;
  static_assert((kReadsMax & (kReadsMax - 1)) == 0, "slots are found by a mask");

  void PointAt(ibv_sge& target, Piece& piece, size_t region);
  void ChooseSignals();
  void BreakIfSilent(Nanos now);
  void NoteCompleted(uint64_t count);
  void Break(const char* reason);
  bool Land(const Piece& piece);

  Connection connection_;
  const Memory memory_;
  ReadReactor& reactor_;

  // READs are numbered from 0. reaped_ ≤ completed_ ≤ flushed_ ≤ posted_.
  uint64_t posted_ = 0;
  uint64_t flushed_ = 0;  ///< given to the device
  uint64_t completed_ = 0;
  uint64_t reaped_ = 0;
  uint64_t read_bytes_ = 0;
  unsigned events_unacknowledged_ = 0;
  bool armed_ = false;
  bool broken_ = false;
  bool closed_ = false;
  const char* reason_ = "";

  Nanos flushed_at_{0};  ///< of the oldest batch that is measured
  uint64_t measured_ = 0;
  Nanos typical_{0};  ///< doorbell to completion, smoothed
  Nanos looked_at_{0};
  Nanos silent_for_{0};

  std::array<Piece, kReadsMax> pieces_{};
  std::array<ibv_send_wr, kReadsMax> requests_{};
  std::array<ibv_sge, kReadsMax> targets_{};
  size_t unanswered_count_ = 0;
  std::array<PageRun, kReadsMax> unanswered_{};
};

}  // namespace faultline::rdma
