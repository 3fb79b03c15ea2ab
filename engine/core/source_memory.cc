#include "engine/core/source_memory.h"

#include <bit>

#include "engine/core/check.h"

namespace faultline {

PresenceMap::PresenceMap(PageCount pages)
    : words_(std::make_unique<std::atomic<uint64_t>[]>((pages.value() + 63) / 64)),
      word_count_((pages.value() + 63) / 64),
      pages_(pages) {}

void PresenceMap::MarkPresent(PageRun run) {
  ForEachWord(run, [](std::atomic<uint64_t>& word, uint64_t bits) {
    word.fetch_or(bits, std::memory_order_acq_rel);
  });
}

void PresenceMap::Clear(PageRun run) {
  ForEachWord(run, [](std::atomic<uint64_t>& word, uint64_t bits) {
    word.fetch_and(~bits, std::memory_order_acq_rel);
  });
}

void PresenceMap::Finish(std::span<const PageRun> data) {
  PageIndex seen;
  for (const PageRun& run : data) {
    Clear({seen, run.first - seen});
    MarkPresent(run);
    seen = run.end();
  }
  Clear({seen, PageIndex(0) + pages_ - seen});
  final_.store(true, std::memory_order_release);
}

/// change(word, the run's bits in it).
template <class Change>
void PresenceMap::ForEachWord(PageRun run, Change change) {
  FAULTLINE_CHECK(run.end().value() <= word_count_ * 64);
  for (uint64_t page = run.first.value(); page < run.end().value();) {
    const uint64_t word_end = (page / 64 + 1) * 64;
    const uint64_t end = word_end < run.end().value() ? word_end : run.end().value();
    const uint64_t from_page = ~uint64_t{0} << (page % 64);
    const uint64_t to_end = ~uint64_t{0} >> (word_end - end);
    change(words_[page / 64], from_page & to_end);
    page = end;
  }
}

bool PresenceMap::IsPresent(PageIndex page) const {
  FAULTLINE_CHECK(page.value() < word_count_ * 64);
  const uint64_t word = words_[page.value() / 64].load(std::memory_order_acquire);
  return (word >> (page.value() % 64) & 1) != 0;
}

PageCount PresenceMap::CountPresent() const {
  uint64_t count = 0;
  for (size_t i = 0; i < word_count_; ++i) {
    count += static_cast<uint64_t>(std::popcount(words_[i].load(std::memory_order_relaxed)));
  }
  return PageCount(count);
}

}  // namespace faultline
