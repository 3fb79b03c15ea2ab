// The destination's side of the page protocol, without any input or output: what was asked for,
// what the reply stream must therefore look like, and where its bytes land.
//
// The stream is  (PageReply+, bytes of the pages whose bit is set)*  in the order of the requests;
// a run that was asked for packed has a Packing after its PageReply, and lands when it is whole.
// Invariants:
//   1. Where bytes land comes from our own table of posted runs. The peer's header is compared
//      with the oldest request without one; only its page bits are used, and only within the run.
//   2. NextReceive() never reaches beyond the replies whose headers are in and one header, or the
//      headers that are known to follow. NextReceiveNow() adds the one page that a single awaited
//      reply can bring: nobody else's bytes can come there, and its own lie where they belong.
//   3. A page is reported when all its bytes are in the guest's RAM file, exactly once, in stream
//   order.
//   4. Before memory of a run is offered, the run has begun (LandingArea::Begin): pages that faults
//   have overtaken by then land nowhere, and are reported as such.
//   5. Once broken, always broken: nothing more is received or reported.
//
// One thread. Allocates nothing.
#pragma once

#include <sys/uio.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/core/geometry.h"
#include "engine/core/landing_area.h"
#include "engine/core/page_channel.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"
#include "engine/tcp/packing.h"

namespace faultline {

class ReplyStream {
 public:
  /// Runs posted and not yet reaped. 256 × 4 KiB is far more than the urgent lane needs, and
  /// 256 × 256 KiB more than any window of the pusher.
  static constexpr size_t kOutstandingMax = 256;

  /// `area` outlives the stream and is its alone; so does `unpacker`, if there is one: then runs
  /// are asked for as its policy says.
  explicit ReplyStream(LandingArea& area, Unpacker* unpacker = nullptr)
      : area_(&area), unpacker_(unpacker) {}

  [[nodiscard]] size_t Room() const { return kOutstandingMax - (posted_ - reaped_); }
  /// REQUIRES: Room() > 0, the run is requestable. The request is to be sent as it is.
  wire::PageRequest Post(PageRun run);

  /// Where the next bytes of the stream go; at least one byte. Valid until OnReceived.
  /// REQUIRES: !broken().
  std::span<iovec> NextReceive();
  /// Likewise, for a receive that ends before anything else is posted.
  std::span<iovec> NextReceiveNow();
  /// The next `bytes` of the stream have been received where NextReceive() said.
  /// REQUIRES: !broken(), bytes <= what NextReceive() offered.
  void OnReceived(size_t bytes);
  [[nodiscard]] bool broken() const { return broken_; }
  /// A run was posted whose reply is not complete.
  [[nodiscard]] bool AwaitsReply() const { return received_ < posted_; }
  [[nodiscard]] bool AwaitsOneReply() const { return received_ + 1 == posted_; }

  /// The source looks for our requests instead of sleeping, said its last reply.
  [[nodiscard]] bool peer_looks() const { return peer_looks_; }

  /// Complete pieces, oldest first; returns how many. Fewer than out.size(): none are left.
  size_t Reap(std::span<Arrival> out);
  [[nodiscard]] bool HasArrivals() const;

  /// Nothing more will be received: runs that have begun are abandoned.
  void Abandon();
  /// The pieces posted and not reaped, oldest first; returns how many were written to `out`.
  size_t CopyUnanswered(std::span<PageRun, kOutstandingMax> out) const;

 private:
  static_assert((kOutstandingMax & (kOutstandingMax - 1)) == 0, "slots are found by a mask");
  static_assert(kRunPagesMax <= 64);
  /// 64 page bits make at most 32 stretches of data. Those of a run are offered all or not at all;
  /// one header follows.
  static constexpr size_t kStretchesMax = kRunPagesMax / 2;
  /// So many replies are offered beside the current one, not as many as the vectors allow: what is
  /// offered no fault overtakes any more.
  static constexpr uint64_t kAheadMax = 2;
  /// Where pages have been overtaken, each may be a vector: such a run is offered only as the
  /// current one.
  static constexpr size_t kVectorsMax = kRunPagesMax + 1;

  /// One posted run. Until its header is in, data_pages is unknown and nothing is complete.
  struct Slot {
    PageRun run;
    wire::Codec codec = wire::Codec::kNone;  ///< as it was asked for
    std::byte* memory = nullptr;             ///< where its first page goes: MemoryOf
    uint64_t page_bytes = 0;
    uint64_t data_pages = 0;
    uint64_t overtaken_pages = 0;  ///< as of when it began
    bool begun = false;
    Nanos turned{};               ///< the source's own share, as it says
    uint64_t pages_complete = 0;  ///< from the first: data pages all in, or zero
    uint64_t page_filled = 0;     ///< bytes in of the page at `pages_complete`, a data page
    uint64_t pages_reaped = 0;
  };

  Slot& SlotOf(uint64_t number) { return slots_[number & (kOutstandingMax - 1)]; }
  [[nodiscard]] const Slot& SlotOf(uint64_t number) const {
    return slots_[number & (kOutstandingMax - 1)];
  }
  struct Header {
    wire::PageReply reply;
    wire::Packing packing;  ///< of a run that was asked for packed
  };
  static_assert(sizeof(Header) == sizeof(wire::PageReply) + sizeof(wire::Packing));

  [[nodiscard]] size_t HeaderBytes(uint64_t number) const {
    const bool packs = number < posted_ && SlotOf(number).codec != wire::Codec::kNone;
    return packs ? sizeof(Header) : sizeof(wire::PageReply);
  }
  [[nodiscard]] bool InPayload() const { return behind_ == 0 && received_ < headed_; }
  [[nodiscard]] static uint64_t DataBytes(const Slot& slot, uint64_t data_pages) {
    return static_cast<uint64_t>(std::popcount(data_pages)) * slot.page_bytes;
  }
  size_t AddHeaders(size_t used);
  [[nodiscard]] bool MayOffer(uint64_t number, size_t used);
  [[nodiscard]] bool AwaitsHeaderOfOnePage() const;
  std::byte* MemoryOf(Slot& slot);
  void Begin(Slot& slot);
  [[nodiscard]] static uint64_t SamePages(const Slot& slot, uint64_t page, uint64_t end);
  size_t AddPayload(Slot& slot, size_t used);
  size_t TakePayload(size_t bytes);
  size_t TakePacked(size_t bytes);
  bool Unpack(Slot& slot);
  size_t TakeHeader(size_t bytes);
  [[nodiscard]] bool AcceptHeader(const wire::PageReply& reply) const;
  [[nodiscard]] bool EndsWith(const wire::PageReply& reply) const;
  [[nodiscard]] bool AcceptPlace(const wire::PageReply& reply) const;
  [[nodiscard]] bool AcceptPacking(const Header& header) const;
  void NoteHeader(const Header& header);
  void FinishWhatIsComplete();
  static void SkipZeroPages(Slot& slot);
  void TellPolicy(const Slot& slot);
  bool Land(Slot& slot, uint64_t first, uint64_t end);

  LandingArea* area_;
  Unpacker* unpacker_;
  std::array<Slot, kOutstandingMax> slots_{};
  // Requests are numbered from 0; their id on the wire is one more.
  // reaped_ ≤ received_ ≤ headed_ ≤ posted_.
  uint64_t posted_ = 0;    ///< how many were posted
  uint64_t headed_ = 0;    ///< how many headers are in
  uint64_t received_ = 0;  ///< how many replies are complete; the next is the current one
  uint64_t reaped_ = 0;    ///< how many have been reported whole
  uint32_t behind_ = 0;    ///< headers to come before any bytes
  std::array<Header, wire::kTogetherMax> headers_{};  ///< of the replies that come together
  size_t at_ = 0;                                     ///< which of them is the next …
  size_t header_filled_ = 0;                          ///< … and how much of it is in
  wire::Packing packing_{};  ///< of the current reply; no bytes: its pages come as they are
  size_t packed_filled_ = 0;
  bool broken_ = false;
  bool peer_looks_ = false;
  std::array<iovec, kVectorsMax> vectors_{};
  std::array<std::byte, kSmallPageSize.bytes()> nowhere_{};  ///< where overtaken pages go
};

}  // namespace faultline
