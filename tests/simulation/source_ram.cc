#include <algorithm>
#include <cstring>
#include <memory>

#include "tests/simulation/network.h"

namespace faultline::simulation {
namespace {

constexpr uint64_t kGarbage = 0xDEAD'0000'0000'0000;
constexpr size_t kBufferBytes = 16 << 20;

/// Zero between migrations, so that building one costs two words per page and no more.
std::byte* Buffer() {
  static const auto buffer = [] {
    constexpr size_t kAlign = 4096;
    return static_cast<std::byte*>(std::aligned_alloc(kAlign, kBufferBytes));
  }();
  static const bool cleared = (std::memset(buffer, 0, kBufferBytes), true);
  return cleared ? buffer : nullptr;
}

}  // namespace

SourceRam::SourceRam(Random& random, const Geometry& geometry, uint64_t zero_percent,
                     uint64_t hole_percent)
    : geometry_(geometry), presence_(geometry.page_count()) {
  Law(geometry.byte_count().value() <= kBufferBytes, "the source fits its buffer", 0);
  std::vector<HostAddr> bases;
  HostAddr next(reinterpret_cast<uint64_t>(Buffer()));
  for (size_t i = 0; i < geometry.region_count(); ++i) {
    bases.push_back(next);
    next += geometry.shape(i).length;
  }
  window_.emplace(geometry, std::move(bases));
  bool hole = false;
  for (uint64_t i = 0; i < geometry.page_count().value(); ++i) {
    const PageIndex page(i);
    if (random.OneIn(3)) hole = random.Percent(hole_percent);
    const Word word = hole || random.Percent(zero_percent) ? 0 : kSourceTag + i;
    words_.push_back(word);
    is_hole_.push_back(hole);
    // Whoever reads a hole through the mapping finds garbage.
    *(random.OneIn(2) ? FirstWord(page) : LastWord(page)) = hole ? kGarbage : word;
    if (!hole && random.Percent(80)) presence_.MarkPresent({page, PageCount(1)});
    const bool joins = hole && !holes_.empty() && holes_.back().end() == page &&
                       geometry.RegionOf(page) == geometry.RegionOf(holes_.back().first);
    if (joins) {
      holes_.back().count += PageCount(1);
    } else if (hole) {
      holes_.push_back({page, PageCount(1)});
    }
  }
  server_.emplace(*window_, presence_, *this);
}

SourceRam::~SourceRam() {
  for (uint64_t i = 0; i < words_.size(); ++i) {
    *FirstWord(PageIndex(i)) = *LastWord(PageIndex(i)) = 0;
  }
}

Word* SourceRam::FirstWord(PageIndex page) const {
  return reinterpret_cast<Word*>(window_->AddrOf(page).value());
}

Word* SourceRam::LastWord(PageIndex page) const {
  const ByteCount last = ByteCount(geometry_.PageSizeOf(page).bytes() - sizeof(Word));
  return reinterpret_cast<Word*>((window_->AddrOf(page) + last).value());
}

bool SourceRam::Read(PageRun run, std::span<std::byte> out) {
  std::memset(out.data(), 0, out.size());
  size_t offset = 0;
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const size_t bytes = geometry_.PageSizeOf(page).bytes();
    if (!is_hole_[page.value()]) {
      std::memcpy(out.data() + offset, FirstWord(page), sizeof(Word));
      std::memcpy(out.data() + offset + bytes - sizeof(Word), LastWord(page), sizeof(Word));
    }
    offset += bytes;
  }
  return true;
}

std::optional<std::vector<Word>> SourceRam::Answer(PageRun run, uint64_t id) {
  const wire::PageRequest request{static_cast<uint32_t>(wire::PageMessage::kRequest),
                                  static_cast<uint32_t>(run.count.value()), run.first.value(), id};
  ReplyPlan plan;
  if (!server_->Plan(request, plan) || plan.header.id != id ||
      plan.header.first != run.first.value()) {
    return std::nullopt;
  }
  const size_t page_bytes = geometry_.PageSizeOf(run.first).bytes();
  std::vector<Word> words;
  size_t segment = 0;
  size_t offset = 0;
  for (uint64_t i = 0; i < run.count.value(); ++i) {
    if ((plan.header.data_pages >> i & 1) == 0) {
      words.push_back(0);
      continue;
    }
    const std::byte* bytes = plan.segments[segment].data() + offset;
    Word first = 0;
    Word last = 0;
    std::memcpy(&first, bytes, sizeof(first));
    std::memcpy(&last, bytes + page_bytes - sizeof(last), sizeof(last));
    words.push_back(first | last);
    offset += page_bytes;
    if (offset == plan.segments[segment].size()) {
      ++segment;
      offset = 0;
    }
  }
  return segment == plan.segment_count ? std::optional(std::move(words)) : std::nullopt;
}

}  // namespace faultline::simulation
