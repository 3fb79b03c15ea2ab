#include "engine/tcp/reply_stream.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/core/check.h"

namespace faultline {
namespace {

/// Pages of one kind (data or zero) from `page` on, in a run of `count`.
uint64_t Stretch(uint64_t data_pages, uint64_t page, uint64_t count) {
  const uint64_t rest = data_pages >> page;
  const auto same =
      static_cast<uint64_t>((rest & 1) != 0 ? std::countr_one(rest) : std::countr_zero(rest));
  return std::min(same, count - page);
}

/// The peer's word: only ever shown, never relied on, but kept within what is a time.
Nanos TurnedIn(const wire::PageReply& header) {
  constexpr uint64_t kMost = 3'600'000'000'000;  // an hour
  return Nanos(static_cast<int64_t>(std::min(header.turned_ns, kMost)));
}

bool IsData(uint64_t data_pages, uint64_t page) { return ((data_pages >> page) & 1) != 0; }

}  // namespace

wire::PageRequest ReplyStream::Post(PageRun run) {
  FAULTLINE_CHECK(Room() > 0 && area_->geometry().IsRequestable(run));
  const bool packs = unpacker_ != nullptr && area_->geometry().BytesOf(run) <= kRunBytesMax;
  const wire::Codec codec = packs ? unpacker_->policy().Next() : wire::Codec::kNone;
  SlotOf(posted_) = Slot{
      .run = run, .codec = codec, .page_bytes = area_->geometry().PageSizeOf(run.first).bytes()};
  ++posted_;
  return {.kind = static_cast<uint32_t>(wire::RequestIn(codec)),
          .count = static_cast<uint32_t>(run.count.value()),
          .first = run.first.value(),
          .id = posted_};
}

std::span<iovec> ReplyStream::NextReceive() {
  FAULTLINE_CHECK(!broken_);
  size_t used = InPayload() ? AddPayload(SlotOf(received_)) : 0;
  const size_t have = InPayload() ? 0 : header_filled_;
  const uint64_t whose = received_ + (InPayload() ? 1 : 0);
  vectors_[used++] = {reinterpret_cast<std::byte*>(&header_) + have, HeaderBytes(whose) - have};
  return {vectors_.data(), used};
}

/// The rest of the current reply's data pages, neighbours joined.
size_t ReplyStream::AddPayload(const Slot& slot) {
  if (packing_.bytes > 0) {
    const auto rest = unpacker_->packed().first(packing_.bytes).subspan(packed_filled_);
    vectors_[0] = {rest.data(), rest.size()};
    return 1;
  }
  size_t used = 0;
  const uint64_t count = slot.run.count.value();
  uint64_t filled = slot.page_filled;
  for (uint64_t page = slot.pages_complete; page < count;) {
    const uint64_t pages = Stretch(slot.data_pages, page, count);
    if (IsData(slot.data_pages, page)) {
      vectors_[used++] = {memory_ + page * slot.page_bytes + filled,
                          pages * slot.page_bytes - filled};
      filled = 0;
    }
    page += pages;
  }
  return used;
}

void ReplyStream::OnReceived(size_t bytes) {
  while (bytes > 0 && !broken_) {
    bytes -= InPayload() ? TakePayload(bytes) : TakeHeader(bytes);
  }
}

size_t ReplyStream::TakePayload(size_t bytes) {
  if (packing_.bytes > 0) return TakePacked(bytes);
  Slot& slot = SlotOf(received_);
  const uint64_t count = slot.run.count.value();
  const uint64_t first = slot.pages_complete;
  size_t taken = 0;
  while (taken < bytes && slot.pages_complete < count) {
    const uint64_t step = std::min<uint64_t>(bytes - taken, slot.page_bytes - slot.page_filled);
    taken += step;
    slot.page_filled += step;
    if (slot.page_filled < slot.page_bytes) break;
    slot.page_filled = 0;
    ++slot.pages_complete;
    SkipZeroPages(slot);
  }
  if (Land(slot, first, slot.pages_complete)) {
    FinishIfComplete(slot);
  } else {
    slot.pages_complete = first;
    broken_ = true;
  }
  return taken;
}

size_t ReplyStream::TakePacked(size_t bytes) {
  Slot& slot = SlotOf(received_);
  const size_t taken = std::min(bytes, packing_.bytes - packed_filled_);
  packed_filled_ += taken;
  if (packed_filled_ < packing_.bytes) return taken;
  const uint64_t count = slot.run.count.value();
  broken_ = !Unpack(slot) || !Land(slot, 0, count);
  if (broken_) return taken;
  slot.pages_complete = count;
  FinishIfComplete(slot);
  return taken;
}

/// Into their places. A block that unpacks to anything but the data pages is a lie.
bool ReplyStream::Unpack(const Slot& slot) {
  const uint64_t first = static_cast<uint64_t>(std::countr_zero(slot.data_pages));
  const uint64_t count = slot.run.count.value();
  const uint64_t bytes = DataBytes(slot.data_pages);
  std::byte* const start = memory_ + first * slot.page_bytes;
  if (Stretch(slot.data_pages, first, count) * slot.page_bytes == bytes) {
    return unpacker_->Unpack(slot.codec, packing_.bytes, {start, bytes});
  }
  const std::span<std::byte> joined = unpacker_->scratch().first(bytes);
  if (!unpacker_->Unpack(slot.codec, packing_.bytes, joined)) return false;
  size_t at = 0;
  for (uint64_t page = first; page < count;) {
    const uint64_t pages = Stretch(slot.data_pages, page, count);
    const size_t length = IsData(slot.data_pages, page) ? pages * slot.page_bytes : 0;
    std::memcpy(memory_ + page * slot.page_bytes, joined.data() + at, length);
    at += length;
    page += pages;
  }
  return true;
}

/// The data pages among those from `first` to `end` of the current reply go into the file.
bool ReplyStream::Land(const Slot& slot, uint64_t first, uint64_t end) {
  for (uint64_t page = first; page < end;) {
    const uint64_t pages = Stretch(slot.data_pages, page, end);
    const PageRun run{slot.run.first + PageCount(page), PageCount(pages)};
    const std::span<const std::byte> bytes{memory_ + page * slot.page_bytes,
                                           pages * slot.page_bytes};
    if (IsData(slot.data_pages, page) && !area_->Land(run, bytes)) return false;
    page += pages;
  }
  return true;
}

size_t ReplyStream::TakeHeader(size_t bytes) {
  const size_t taken = std::min(bytes, HeaderBytes(received_) - header_filled_);
  header_filled_ += taken;
  if (!InPayload()) return taken;
  broken_ = !AcceptHeader() || !AcceptPacking();
  if (broken_) return taken;
  Slot& slot = SlotOf(received_);
  slot.data_pages = header_.reply.data_pages;
  slot.turned = TurnedIn(header_.reply);
  packing_ = slot.codec == wire::Codec::kNone ? wire::Packing{} : header_.packing;
  packed_filled_ = 0;
  memory_ = area_->MemoryOf(slot.run).data();
  if (packing_.bytes > 0) return taken;
  SkipZeroPages(slot);
  FinishIfComplete(slot);
  return taken;
}

/// Every field must be what we asked for; a reply that nobody asked for is a lie too.
bool ReplyStream::AcceptHeader() {
  if (received_ == posted_) return false;
  const PageRun& run = SlotOf(received_).run;
  const uint64_t count = run.count.value();
  const wire::PageReply& reply = header_.reply;
  const bool bits_within_run = count == 64 || (reply.data_pages >> count) == 0;
  return reply.kind == static_cast<uint32_t>(wire::PageMessage::kReply) &&
         reply.id == received_ + 1 && reply.first == run.first.value() && reply.count == count &&
         bits_within_run;
}

/// REQUIRES: the rest of the header is acceptable. Packed bytes fit our buffer, because they are
/// fewer than the pages, and a run that may be asked for packed is not longer than it.
bool ReplyStream::AcceptPacking() const {
  if (SlotOf(received_).codec == wire::Codec::kNone || header_.packing.bytes == 0) return true;
  return header_.packing.bytes < DataBytes(header_.reply.data_pages);
}

void ReplyStream::SkipZeroPages(Slot& slot) {
  const uint64_t count = slot.run.count.value();
  if (slot.pages_complete == count || IsData(slot.data_pages, slot.pages_complete)) return;
  slot.pages_complete += Stretch(slot.data_pages, slot.pages_complete, count);
}

void ReplyStream::FinishIfComplete(const Slot& slot) {
  if (slot.pages_complete < slot.run.count.value()) return;
  TellPolicy(slot);
  ++received_;
  header_filled_ = 0;
}

void ReplyStream::TellPolicy(const Slot& slot) {
  if (unpacker_ == nullptr) return;
  const ByteCount pages(DataBytes(slot.data_pages));
  const ByteCount sent = packing_.bytes > 0 ? ByteCount(packing_.bytes) : pages;
  unpacker_->policy().NoteRun(slot.codec, pages, sent, Nanos(packing_.took_ns));
}

bool ReplyStream::HasArrivals() const {
  return reaped_ < posted_ && SlotOf(reaped_).pages_reaped < SlotOf(reaped_).pages_complete;
}

size_t ReplyStream::Reap(std::span<Arrival> out) {
  size_t reported = 0;
  while (reported < out.size() && HasArrivals()) {
    Slot& slot = SlotOf(reaped_);
    const uint64_t first = slot.pages_reaped;
    const uint64_t pages = Stretch(slot.data_pages, first, slot.pages_complete);
    out[reported++] = {.run = {slot.run.first + PageCount(first), PageCount(pages)},
                       .zero = !IsData(slot.data_pages, first),
                       .turned = slot.turned};
    slot.pages_reaped += pages;
    if (slot.pages_reaped == slot.run.count.value()) ++reaped_;
  }
  return reported;
}

size_t ReplyStream::CopyUnanswered(std::span<PageRun, kOutstandingMax> out) const {
  size_t used = 0;
  for (uint64_t number = reaped_; number < posted_; ++number) {
    const Slot& slot = SlotOf(number);
    const PageCount reaped(slot.pages_reaped);
    out[used++] = {slot.run.first + reaped, slot.run.count - reaped};
  }
  return used;
}

}  // namespace faultline
