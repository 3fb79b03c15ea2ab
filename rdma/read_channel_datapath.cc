// The hot path of a lane of READs, in the order in which a page passes through it:
//
//   RouteOf  can it be read, and where would it land?
//   Post     the work request is written
//   Flush    one doorbell for all that were: at once (SendNow) where somebody waits
//   Poll     completions: bytes have landed
//   Reap     what landed in the pool goes into the file; arrivals
#include <algorithm>

#include "engine/core/check.h"
#include "rdma/read_channel.h"

namespace faultline::rdma {
namespace {

constexpr int kCompletionsPerPoll = 32;
constexpr int kSmoothing = 8;  // of typical_: an average over about that many batches

}  // namespace

Route ReadChannel::RouteOf(PageRun run) const {
  Route route = memory_.remote.RouteOf(run);
  if (!route.direct) return route;
  const uint64_t bytes = memory_.alias.geometry().BytesOf(route.run).value();
  const bool in_place = memory_.local.Of(*memory_.remote.RegionOf(run.first)) != nullptr;
  route.direct = !broken_ && bytes <= memory_.message_bytes_max.value() &&
                 (in_place || memory_.pool.space().Fit(bytes).has_value());
  return route;
}

// REQUIRES: RouteOf said direct.
void ReadChannel::Post(PageRun run) {
  FAULTLINE_CHECK(!closed_ && Room() > 0);
  const size_t slot = posted_ & kMask;
  Piece& piece = pieces_[slot];
  piece = {.run = run,
           .bytes = static_cast<uint32_t>(memory_.alias.geometry().BytesOf(run).value()),
           .pooled = false,
           .room = {}};
  PointAt(targets_[slot], piece, *memory_.remote.RegionOf(run.first));
  const RemoteTable::Target source = memory_.remote.TargetOf(run.first);
  ibv_send_wr& request = requests_[slot];
  request = {};
  request.wr_id = posted_;
  request.sg_list = &targets_[slot];
  request.num_sge = 1;
  request.opcode = IBV_WR_RDMA_READ;
  request.wr.rdma.remote_addr = source.address;
  request.wr.rdma.rkey = source.key;
  ++posted_;
}

void ReadChannel::PointAt(ibv_sge& target, Piece& piece, size_t region) {
  if (const ibv_mr* const alias = memory_.local.Of(region)) {
    target = {memory_.alias.AddrOf(piece.run.first).value(), piece.bytes, alias->lkey};
    return;
  }
  const auto room = memory_.pool.space().Fit(piece.bytes);
  FAULTLINE_CHECK(room.has_value());
  memory_.pool.space().Take(*room);
  piece.pooled = true;
  piece.room = *room;
  const std::span<std::byte> bytes = memory_.pool.BytesAt(room->offset, piece.bytes);
  target = {reinterpret_cast<uint64_t>(bytes.data()), piece.bytes, memory_.pool.key()};
}

void ReadChannel::Flush(Nanos now) {
  BreakIfSilent(now);
  if (flushed_ == posted_ || broken_) return;
  ChooseSignals();
  ibv_send_wr* failed = nullptr;
  if (ibv_post_send(connection_.id->qp, &requests_[flushed_ & kMask], &failed) != 0) {
    return Break("the device took no READ");  // those before `failed` may land: Close sees to it
  }
  if (completed_ == flushed_) {  // idle until now: this batch is measured
    flushed_at_ = now;
    measured_ = posted_;
  }
  flushed_ = posted_;
}

void ReadChannel::SendNow() {
  Flush(MonotonicNow());
  Poll();
}

/// Links the batch, and has one READ signalled for every few small ones, and the last.
void ReadChannel::ChooseSignals() {
  int unsignalled = 0;
  uint64_t unsignalled_bytes = 0;
  for (uint64_t number = flushed_; number < posted_; ++number) {
    ibv_send_wr& request = requests_[number & kMask];
    const bool last = number + 1 == posted_;
    request.next = last ? nullptr : &requests_[(number + 1) & kMask];
    unsignalled_bytes += pieces_[number & kMask].bytes;
    const bool signal =
        last || ++unsignalled >= kUnsignalledMax || unsignalled_bytes >= kUnsignalledBytesMax;
    request.send_flags = signal ? IBV_SEND_SIGNALED : 0;
    if (!signal) continue;
    unsignalled = 0;
    unsignalled_bytes = 0;
  }
}

void ReadChannel::Poll() {
  if (closed_) return;
  std::array<ibv_wc, kCompletionsPerPoll> completions;
  const int count = ibv_poll_cq(connection_.queue.get(), kCompletionsPerPoll, completions.data());
  if (count < 0) return Break("its completion queue failed");
  for (int i = 0; i < count && !broken_; ++i) {
    const ibv_wc& completion = completions[static_cast<size_t>(i)];
    if (completion.status != IBV_WC_SUCCESS) return Break(ibv_wc_status_str(completion.status));
    NoteCompleted(completion.wr_id + 1);
  }
}

void ReadChannel::NoteCompleted(uint64_t count) {
  FAULTLINE_CHECK(count > completed_ && count <= flushed_);
  completed_ = count;
  silent_for_ = Nanos::zero();
  if (measured_ == 0 || completed_ < measured_) return;
  measured_ = 0;
  const Nanos took = MonotonicNow() - flushed_at_;
  typical_ += (took - typical_) / kSmoothing;
}

bool ReadChannel::AskForEvent() {
  if (broken_ || closed_) return true;
  if (!armed_) {
    if (ibv_req_notify_cq(connection_.queue.get(), 0) != 0) Break("its completion queue failed");
    armed_ = true;
    Poll();  // what completed before the request is not announced
  }
  return HasNews();
}

size_t ReadChannel::Reap(std::span<Arrival> out) {
  if (closed_) return 0;
  size_t count = 0;
  while (count < out.size() && reaped_ < completed_) {
    const Piece& piece = pieces_[reaped_ & kMask];
    if (!Land(piece)) {
      Break("no memory left for guest RAM");
      break;
    }
    read_bytes_ += piece.bytes;
    memory_.read_bytes.Add(piece.bytes);
    out[count++] = {.run = piece.run, .zero = false};
    ++reaped_;
  }
  return count;
}

bool ReadChannel::Land(const Piece& piece) {
  if (!piece.pooled) return true;
  const std::span<std::byte> bytes = memory_.pool.BytesAt(piece.room.offset, piece.bytes);
  if (!memory_.sink.Write(piece.run, bytes)) return false;
  memory_.pool.space().GiveBack(piece.room);
  return true;
}

}  // namespace faultline::rdma
