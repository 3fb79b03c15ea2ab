// Fuzzes the destination's parser of page replies. The input is a small program: it posts runs,
// feeds bytes of a hostile stream (honest headers among them, or none would get far), and reaps.
//
// Checked: nothing lands outside the pages posted, no page is reported that was not posted, no
// page twice; and at the end every page posted is either reported or unanswered.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/core/check.h"
#include "engine/tcp/reply_stream.h"

namespace faultline {
namespace {

constexpr uint64_t kPages = 12;
constexpr size_t kPageBytes = 4096;
constexpr std::byte kUntouched{0xA5};
constexpr std::byte kSent{0x5A};

constexpr std::array kHow{wire::Compression::kOff, wire::Compression::kLz4,
                          wire::Compression::kZstd};

class Program {
 public:
  explicit Program(std::span<const uint8_t> input)
      : input_(input),
        geometry_(
            *Geometry::Create({{"ram0", ByteCount(kPages * kPageBytes), PageSize(kPageBytes)}})),
        ram_(geometry_, {HostAddr(reinterpret_cast<uint64_t>(memory_.data()))}),
        landing_(ram_),
        policy_(kHow[Next() % kHow.size()]),
        unpacker_(policy_),
        replies_(landing_, &unpacker_) {
    std::memset(memory_.data(), static_cast<int>(kUntouched), memory_.size());
  }

  void Run() {
    while (!input_.empty() && !replies_.broken()) Step();
    ReapAll();
    CheckEnd();
  }

 private:
  uint8_t Next() {
    if (input_.empty()) return 0;
    const uint8_t value = input_.front();
    input_ = input_.subspan(1);
    return value;
  }

  void Step() {
    switch (Next() % 5) {
      case 0:
        return Post();
      case 1:
        return FeedInput(Next());
      case 2:
        return FeedHeader();
      case 3:
        return FeedPayload(size_t{Next()} * 97);
      default:
        return ReapAll();
    }
  }

  /// Only pages that are not outstanding: the ledger claims each once.
  void Post() {
    const uint64_t first = Next() % kPages;
    const uint64_t count = std::min<uint64_t>(1 + Next() % 8, kPages - first);
    for (uint64_t page = first; page < first + count; ++page) {
      if (outstanding_[page]) return;
    }
    if (replies_.Room() == 0) return;
    std::fill_n(outstanding_.begin() + static_cast<ptrdiff_t>(first), count, true);
    std::fill_n(posted_ever_.begin() + static_cast<ptrdiff_t>(first), count, true);
    requests_[posted_++ % requests_.size()] = replies_.Post({PageIndex(first), PageCount(count)});
  }

  /// How many headers an honest source could say to follow: mostly none.
  uint16_t HeadersBehind() {
    if (behind_ > 0) return --behind_;
    behind_ = Next() % 8 == 0 ? static_cast<uint16_t>(Next() % wire::kTogetherMax) : uint16_t{0};
    return behind_;
  }

  /// A header that is honest but for what the input flips.
  void FeedHeader() {
    const wire::PageRequest& request = requests_[answered_++ % requests_.size()];
    const uint16_t headers_behind = HeadersBehind();
    const wire::PageReply reply{static_cast<uint32_t>(wire::PageMessage::kReply),
                                request.count,
                                request.first,
                                request.id,
                                Next(),
                                0,
                                headers_behind,
                                static_cast<uint16_t>(Next() % 2)};
    const wire::Packing packing{Next(), 1};
    std::array<std::byte, sizeof reply + sizeof packing> both;
    std::memcpy(both.data(), &reply, sizeof reply);
    std::memcpy(both.data() + sizeof reply, &packing, sizeof packing);
    const bool packs = wire::CodecOfRequest(request.kind) != wire::Codec::kNone;
    const std::span<std::byte> bytes = std::span(both).first(packs ? both.size() : sizeof reply);
    if (Next() == 0) bytes[Next() % bytes.size()] ^= static_cast<std::byte>(Next());
    if (Next() % 2 == 0) return Feed(bytes);
    std::vector<std::byte> more(bytes.begin(), bytes.end());  // and what may follow, at once
    more.resize(more.size() + size_t{Next()} * 32, kSent);
    Feed(more);
  }

  void FeedInput(size_t length) {
    const auto piece = input_.first(std::min(length, input_.size()));
    input_ = input_.subspan(piece.size());
    Feed(std::as_bytes(piece));
  }

  void FeedPayload(size_t length) {
    static const auto payload = [] {
      std::array<std::byte, 255 * 97> bytes;
      bytes.fill(kSent);
      return bytes;
    }();
    Feed(std::span(payload).first(length));
  }

  void Feed(std::span<const std::byte> bytes) {
    while (!bytes.empty() && !replies_.broken()) {
      size_t copied = 0;
      const bool now = bytes.size() % 2 == 0;
      for (const iovec& vector : now ? replies_.NextReceiveNow() : replies_.NextReceive()) {
        FAULTLINE_CHECK(vector.iov_len > 0);
        const size_t part = std::min(vector.iov_len, bytes.size() - copied);
        std::memcpy(vector.iov_base, bytes.data() + copied, part);
        copied += part;
      }
      FAULTLINE_CHECK(copied > 0);
      replies_.OnReceived(copied);
      bytes = bytes.subspan(copied);
    }
  }

  void ReapAll() {
    std::array<Arrival, 3> arrivals;
    size_t count = 0;
    do {
      count = replies_.Reap(arrivals);
      for (size_t i = 0; i < count; ++i) {
        Settle(arrivals[i].run);
        if (arrivals[i].zero) CheckUntouched(arrivals[i].run);
        if (!arrivals[i].zero) NoteData(arrivals[i].run);
      }
    } while (count == arrivals.size());
  }

  void Settle(PageRun run) {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      FAULTLINE_CHECK(outstanding_.at(page.value()));
      outstanding_.at(page.value()) = false;
    }
  }

  void NoteData(PageRun run) {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      answered_with_data_[page.value()] = true;
    }
  }

  /// Nothing of a zero page has come, unless it was posted and answered before.
  void CheckUntouched(PageRun run) const {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      if (answered_with_data_[page.value()]) continue;
      FAULTLINE_CHECK(IsUntouched(page.value()));
    }
  }

  [[nodiscard]] bool IsUntouched(uint64_t page) const {
    const std::byte* const bytes = memory_.data() + page * kPageBytes;
    return bytes[0] == kUntouched && std::memcmp(bytes, bytes + 1, kPageBytes - 1) == 0;
  }

  void CheckEnd() {
    std::array<PageRun, ReplyStream::kOutstandingMax> unanswered;
    const size_t count = replies_.CopyUnanswered(unanswered);
    for (size_t i = 0; i < count; ++i) Settle(unanswered[i]);
    FAULTLINE_CHECK(std::ranges::count(outstanding_, true) == 0);
    for (uint64_t page = 0; page < kPages; ++page) {
      FAULTLINE_CHECK(posted_ever_[page] || IsUntouched(page));
    }
  }

  alignas(kPageBytes) std::array<std::byte, kPages * kPageBytes> memory_;
  std::span<const uint8_t> input_;
  Geometry geometry_;
  RamWindow ram_;
  AliasLanding landing_;
  CompressionPolicy policy_;
  Unpacker unpacker_;
  ReplyStream replies_;
  std::array<bool, kPages> outstanding_{};
  std::array<bool, kPages> posted_ever_{};
  std::array<bool, kPages> answered_with_data_{};
  std::array<wire::PageRequest, 64> requests_{};
  size_t posted_ = 0;
  size_t answered_ = 0;
  uint16_t behind_ = 0;
};

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  faultline::Program({data, size}).Run();
  return 0;
}
