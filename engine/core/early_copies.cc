#include "engine/core/early_copies.h"

#include <cstring>

#include "engine/core/page_runs.h"
#include "engine/core/zero_check.h"

namespace faultline {
namespace {

constexpr PageCount kOne{1};
constexpr size_t kBatchPages = 256;

}  // namespace

void EarlyCopies::Add(std::span<const PageRun> runs) {
  const size_t room = memory_.size() / kSmallPageSize.bytes();
  copies_.reserve(room);
  std::byte* next = memory_.data();
  for (const PageRun& run : runs) {
    if (ram_.geometry().PageSizeOf(run.first) != kSmallPageSize) continue;
    for (PageIndex page = run.first; page < run.end() && copies_.size() < room; ++page) {
      if (!presence_.IsPresent(page)) continue;
      std::memcpy(next, ram_.BytesOf({page, kOne}).data(), kSmallPageSize.bytes());
      if (IsAllZero({next, kSmallPageSize.bytes()})) continue;
      copies_.push_back({page, next});
      next += kSmallPageSize.bytes();
    }
  }
}

bool EarlyCopies::HasChanged(const Copy& copy) const {
  const std::byte* now = ram_.BytesOf({copy.page, kOne}).data();
  return std::memcmp(copy.bytes, now, kSmallPageSize.bytes()) != 0;
}

std::vector<PageRun> EarlyCopies::ForgetChanged() {
  std::vector<PageRun> changed;
  std::erase_if(copies_, [&](const Copy& copy) {
    const bool differs = HasChanged(copy);
    if (differs) AppendJoined(changed, {copy.page, kOne}, ram_.geometry());
    return differs;
  });
  return changed;
}

Status EarlyCopies::VisitCopies(
    const std::function<Status(PageRun run, std::span<const std::byte> bytes)>& visit) const {
  for (size_t i = 0; i < copies_.size();) {
    std::vector<PageRun> run;
    const Copy& first = copies_[i];
    size_t length = 0;  // of pages that lie side by side, in guest RAM and here
    for (; i < copies_.size() && length < kVisitedMax.value(); ++i, ++length) {
      AppendJoined(run, {copies_[i].page, kOne}, ram_.geometry());
      const bool beside = copies_[i].bytes == first.bytes + length * kSmallPageSize.bytes();
      if (run.size() > 1 || !beside) break;
    }
    FAULTLINE_TRY(visit({first.page, PageCount(length)},
                        {first.bytes, length * kSmallPageSize.bytes()}));
  }
  return {};
}

Status EarlyCopies::VisitUnchanged(
    const std::function<Status(const std::vector<PageRun>&)>& visit) const {
  std::vector<PageRun> batch;
  for (size_t i = 0; i < copies_.size(); ++i) {
    const PageRun page{copies_[i].page, kOne};
    if (!HasChanged(copies_[i])) AppendJoined(batch, page, ram_.geometry());
    const bool full = (i + 1) % kBatchPages == 0 || i + 1 == copies_.size();
    if (!full || batch.empty()) continue;
    FAULTLINE_TRY(visit(batch));
    batch.clear();
  }
  return {};
}

}  // namespace faultline
