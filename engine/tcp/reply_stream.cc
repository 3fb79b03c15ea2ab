#include "engine/tcp/reply_stream.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/core/check.h"

namespace faultline {
namespace {

/// Pages of one kind (bit set, or not) from `page` on, in a run of `count`.
uint64_t Stretch(uint64_t data_pages, uint64_t page, uint64_t count) {
  const uint64_t rest = data_pages >> page;
  const auto same =
      static_cast<uint64_t>((rest & 1) != 0 ? std::countr_one(rest) : std::countr_zero(rest));
  return std::min(same, count - page);
}

bool Has(uint64_t pages, uint64_t page) { return ((pages >> page) & 1) != 0; }

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
  size_t used = 0;
  uint64_t next = received_;
  if (behind_ == 0) {
    while (next < headed_ && MayOffer(next, used)) used = AddPayload(SlotOf(next++), used);
  }
  if (behind_ > 0 || next == headed_) used = AddHeaders(used);
  return {vectors_.data(), used};
}

std::span<iovec> ReplyStream::NextReceiveNow() {
  size_t used = NextReceive().size();
  if (AwaitsHeaderOfOnePage()) {
    Slot& slot = SlotOf(headed_);
    Begin(slot);
    std::byte* const memory = Has(slot.overtaken_pages, 0) ? nowhere_.data() : MemoryOf(slot);
    vectors_[used++] = {memory, slot.page_bytes};
  }
  return {vectors_.data(), used};
}

bool ReplyStream::AwaitsHeaderOfOnePage() const {
  if (headed_ != received_ || !AwaitsOneReply() || behind_ > 0) return false;
  const Slot& slot = SlotOf(headed_);
  return slot.run.count == PageCount(1) && slot.codec == wire::Codec::kNone &&
         area_->HasOwnMemory(slot.run);
}

/// The current reply's bytes always; those of the next ones if nobody else's can lie there.
bool ReplyStream::MayOffer(uint64_t number, size_t used) {
  if (number == received_) return true;
  if (number > received_ + kAheadMax) return false;
  Slot& slot = SlotOf(number);
  if (used + kStretchesMax >= kVectorsMax || !area_->HasOwnMemory(slot.run)) return false;
  Begin(slot);
  return slot.overtaken_pages == 0;
}

std::byte* ReplyStream::MemoryOf(Slot& slot) {
  if (slot.memory == nullptr) slot.memory = area_->MemoryOf(slot.run).data();
  return slot.memory;
}

/// From here on its bytes may land, but for what faults have overtaken.
void ReplyStream::Begin(Slot& slot) {
  if (slot.begun) return;
  slot.begun = true;
  slot.overtaken_pages = area_->Begin(slot.run);
}

/// The rest of the next header, and whole those that are known to follow it.
size_t ReplyStream::AddHeaders(size_t used) {
  const auto start = [this](size_t index) {
    return reinterpret_cast<std::byte*>(&headers_[index]);
  };
  vectors_[used++] = {start(at_) + header_filled_, HeaderBytes(headed_) - header_filled_};
  for (uint32_t i = 1; i < behind_; ++i) {
    vectors_[used++] = {start(at_ + i), sizeof(wire::PageReply)};
  }
  return used;
}

/// The rest of a reply's data pages, neighbours joined.
size_t ReplyStream::AddPayload(Slot& slot, size_t used) {
  if (packing_.bytes > 0) {
    const auto rest = unpacker_->packed().first(packing_.bytes).subspan(packed_filled_);
    vectors_[used++] = {rest.data(), rest.size()};
    return used;
  }
  const uint64_t count = slot.run.count.value();
  uint64_t filled = slot.page_filled;
  for (uint64_t page = slot.pages_complete; page < count;) {
    const bool lands = !Has(slot.overtaken_pages, page);
    const uint64_t pages = lands ? SamePages(slot, page, count) : 1;
    if (Has(slot.data_pages, page)) {
      std::byte* const memory =
          lands ? MemoryOf(slot) + page * slot.page_bytes + filled : nowhere_.data();
      vectors_[used++] = {memory, pages * slot.page_bytes - filled};
      filled = 0;
    }
    page += pages;
  }
  return used;
}

/// How many from `page` on are alike, up to `end`: bring data or not, and land or not.
uint64_t ReplyStream::SamePages(const Slot& slot, uint64_t page, uint64_t end) {
  return std::min(Stretch(slot.data_pages, page, end), Stretch(slot.overtaken_pages, page, end));
}

void ReplyStream::OnReceived(size_t bytes) {
  while (bytes > 0 && !broken_) {
    broken_ = !AwaitsReply();  // of what nobody asked for not even the first byte is taken
    if (!broken_) bytes -= InPayload() ? TakePayload(bytes) : TakeHeader(bytes);
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
    FinishWhatIsComplete();
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
  FinishWhatIsComplete();
  return taken;
}

/// Into their places. A block that unpacks to anything but the data pages is a lie.
bool ReplyStream::Unpack(Slot& slot) {
  const uint64_t first = static_cast<uint64_t>(std::countr_zero(slot.data_pages));
  const uint64_t count = slot.run.count.value();
  const uint64_t bytes = DataBytes(slot, slot.data_pages);
  std::byte* const start = MemoryOf(slot) + first * slot.page_bytes;
  const bool all_land = (slot.data_pages & slot.overtaken_pages) == 0;
  if (all_land && Stretch(slot.data_pages, first, count) * slot.page_bytes == bytes) {
    return unpacker_->Unpack(slot.codec, packing_.bytes, {start, bytes});
  }
  const std::span<std::byte> joined = unpacker_->scratch().first(bytes);
  if (!unpacker_->Unpack(slot.codec, packing_.bytes, joined)) return false;
  size_t at = 0;
  for (uint64_t page = first; page < count;) {
    const uint64_t pages = SamePages(slot, page, count);
    const size_t length = Has(slot.data_pages, page) ? pages * slot.page_bytes : 0;
    if (!Has(slot.overtaken_pages, page)) {
      std::memcpy(MemoryOf(slot) + page * slot.page_bytes, joined.data() + at, length);
    }
    at += length;
    page += pages;
  }
  return true;
}

/// The data pages among those from `first` to `end` of the current reply go into the file.
bool ReplyStream::Land(Slot& slot, uint64_t first, uint64_t end) {
  for (uint64_t page = first; page < end;) {
    const uint64_t pages = SamePages(slot, page, end);
    const PageRun run{slot.run.first + PageCount(page), PageCount(pages)};
    const std::span<const std::byte> bytes{MemoryOf(slot) + page * slot.page_bytes,
                                           pages * slot.page_bytes};
    const bool lands = Has(slot.data_pages, page) && !Has(slot.overtaken_pages, page);
    if (lands && !area_->Land(run, bytes)) return false;
    page += pages;
  }
  return true;
}

size_t ReplyStream::TakeHeader(size_t bytes) {
  const size_t whole = HeaderBytes(headed_);
  const size_t taken = std::min(bytes, whole - header_filled_);
  header_filled_ += taken;
  if (header_filled_ < whole) return taken;
  const Header& header = headers_[at_];
  broken_ = !AcceptHeader(header.reply) || !AcceptPlace(header.reply) || !AcceptPacking(header) ||
            (bytes > taken && EndsWith(header.reply));
  if (!broken_) NoteHeader(header);
  return taken;
}

/// Every field must be what we asked for; a reply that nobody asked for is a lie too.
bool ReplyStream::AcceptHeader(const wire::PageReply& reply) const {
  if (headed_ == posted_) return false;
  const PageRun& run = SlotOf(headed_).run;
  const uint64_t count = run.count.value();
  const bool bits_within_run = count == 64 || (reply.data_pages >> count) == 0;
  return reply.kind == static_cast<uint32_t>(wire::PageMessage::kReply) &&
         reply.id == headed_ + 1 && reply.first == run.first.value() && reply.count == count &&
         bits_within_run && reply.looks <= 1;
}

/// With that header, all that was asked for is here: what follows it nobody asked for.
bool ReplyStream::EndsWith(const wire::PageReply& reply) const {
  return headed_ == received_ && AwaitsOneReply() && reply.data_pages == 0;
}

/// The first of those that come together says how many, each of the others one less. What was
/// asked for packed comes alone.
bool ReplyStream::AcceptPlace(const wire::PageReply& reply) const {
  const uint32_t behind = reply.headers_behind;
  const bool alone = at_ == 0 && behind == 0;
  if (SlotOf(headed_).codec != wire::Codec::kNone) return alone;
  const uint64_t awaited = std::min<uint64_t>(wire::kTogetherMax, posted_ - headed_);
  return at_ == 0 ? behind < awaited : behind + 1 == behind_;
}

/// REQUIRES: the rest of the header is acceptable. Packed bytes fit our buffer, because they are
/// fewer than the pages, and a run that may be asked for packed is not longer than it.
bool ReplyStream::AcceptPacking(const Header& header) const {
  const Slot& slot = SlotOf(headed_);
  if (slot.codec == wire::Codec::kNone || header.packing.bytes == 0) return true;
  return header.packing.bytes < DataBytes(slot, header.reply.data_pages);
}

void ReplyStream::NoteHeader(const Header& header) {
  Slot& slot = SlotOf(headed_++);
  slot.data_pages = header.reply.data_pages;
  slot.turned = Nanos(header.reply.turned_ns);
  packing_ = slot.codec == wire::Codec::kNone ? wire::Packing{} : header.packing;
  packed_filled_ = 0;
  header_filled_ = 0;
  peer_looks_ = header.reply.looks != 0;
  behind_ = header.reply.headers_behind;
  at_ = behind_ > 0 ? at_ + 1 : 0;
  if (behind_ == 0) FinishWhatIsComplete();
}

/// The current reply is over when no byte of it is missing; then the next one is the current one.
void ReplyStream::FinishWhatIsComplete() {
  while (received_ < headed_) {
    Slot& slot = SlotOf(received_);
    Begin(slot);
    if (packing_.bytes == 0) SkipZeroPages(slot);
    if (slot.pages_complete < slot.run.count.value()) return;
    TellPolicy(slot);
    packing_ = {};
    ++received_;
  }
}

void ReplyStream::SkipZeroPages(Slot& slot) {
  const uint64_t count = slot.run.count.value();
  if (slot.pages_complete == count || Has(slot.data_pages, slot.pages_complete)) return;
  slot.pages_complete += Stretch(slot.data_pages, slot.pages_complete, count);
}

void ReplyStream::TellPolicy(const Slot& slot) {
  if (unpacker_ == nullptr) return;
  const ByteCount pages(DataBytes(slot, slot.data_pages));
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
    const uint64_t pages = SamePages(slot, first, slot.pages_complete);
    out[reported++] = {.run = {slot.run.first + PageCount(first), PageCount(pages)},
                       .zero = !Has(slot.data_pages, first),
                       .overtaken = Has(slot.overtaken_pages, first),
                       .turned = slot.turned};
    slot.pages_reaped += pages;
    if (slot.pages_reaped == slot.run.count.value()) ++reaped_;
  }
  return reported;
}

void ReplyStream::Abandon() {
  for (uint64_t number = reaped_; number < posted_; ++number) {
    const Slot& slot = SlotOf(number);
    const uint64_t count = slot.run.count.value();
    for (uint64_t page = slot.pages_reaped; slot.begun && page < count;) {
      const uint64_t pages = Stretch(slot.overtaken_pages, page, count);
      const PageRun run{slot.run.first + PageCount(page), PageCount(pages)};
      if (!Has(slot.overtaken_pages, page)) area_->Abandon(run);
      page += pages;
    }
  }
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
