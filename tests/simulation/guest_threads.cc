#include "tests/simulation/guest_threads.h"

#include <algorithm>

namespace faultline::simulation {

bool GuestThread::Runnable() const {
  if (asleep_ || Finished() || memory_.gone()) return false;
  return stage_ != Stage::kRemoving || remove_read_;
}

void GuestThread::Step() {
  switch (stage_) {
    case Stage::kIdle:
      return Begin();
    case Stage::kTouch:
      return Touch();
    case Stage::kPunched:
      remove_read_ = false;
      memory_.StartRemove(run_, &remove_read_);
      stage_ = Stage::kRemoving;
      return;
    case Stage::kRemoving:
      memory_.AllowMapping();
      stage_ = Stage::kRemoved;
      return;
    case Stage::kRemoved:
      memory_.FinishRemove(run_, punches_late_);
      stage_ = Stage::kIdle;
      return;
  }
}

PageRun GuestThread::SomeRun() {
  const uint64_t pages = geometry_.page_count().value();
  const uint64_t limit = habits_.hot_pages == 0 ? pages : std::min(pages, habits_.hot_pages);
  const PageIndex first(world_.random.Below(limit));
  const PageIndex end = geometry_.pages_of(geometry_.RegionOf(first)).end();
  const uint64_t count = std::min(world_.random.Between(1, 6), (end - first).value());
  return {first, PageCount(count)};
}

void GuestThread::Begin() {
  --habits_.operations;
  run_ = SomeRun();
  page_ = run_.first;
  const uint64_t draw = world_.random.Below(100);
  if (draw < habits_.discard_percent) {
    for (PageIndex page = run_.first; page < run_.end(); ++page) {
      if (memory_.IsBeingDiscarded(page)) return;
    }
    switch (world_.random.Below(8)) {
      case 0:
        return memory_.PunchSilently(run_);
      case 1:
      case 2:
      case 3:  // fallocate, then madvise(DONTNEED): QEMU's balloon
        punches_late_ = false;
        memory_.BeginDiscard(run_);
        memory_.Punch(run_);
        stage_ = Stage::kPunched;
        return;
      default:  // madvise(REMOVE)
        punches_late_ = true;
        memory_.BeginDiscard(run_);
        stage_ = Stage::kPunched;
        return;
    }
  }
  if (draw < habits_.discard_percent + habits_.zap_percent) return memory_.Zap(page_);
  writes_ = world_.random.Percent(habits_.write_percent);
  stage_ = Stage::kTouch;
  Touch();
}

void GuestThread::Touch() {
  asleep_ = true;  // unless the page is there
  const bool done = writes_ ? memory_.WriteWord(page_, *this) : memory_.ReadWord(page_, *this);
  if (!done) return;
  asleep_ = false;
  stage_ = Stage::kIdle;
}

}  // namespace faultline::simulation
