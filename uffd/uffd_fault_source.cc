#include "uffd/uffd_fault_source.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "engine/core/check.h"

namespace faultline {

namespace {

/// The guest's end is looked for on empty reads, this often at most.
constexpr Nanos kEndCheckInterval = std::chrono::milliseconds(20);

void Count(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

bool PageBefore(const Fault& left, const Fault& right) { return left.page < right.page; }
bool SamePage(const Fault& left, const Fault& right) { return left.page == right.page; }
bool RunBefore(const PageRun& left, const PageRun& right) { return left.first < right.first; }

}  // namespace

UffdFaultSource::UffdFaultSource(const UserfaultFd& uffd, const VmmMap& map, int pidfd,
                                 CoreFollower* follower)
    : uffd_(uffd), map_(map), pidfd_(pidfd), follower_(follower) {
  removed_.reserve(kBatchMax * map.geometry().region_count());
}

FaultBatch UffdFaultSource::Read() {
  fault_count_ = 0;
  removed_.clear();
  const ssize_t got = ::read(uffd_.fd(), messages_.data(), sizeof(messages_));
  if (got <= 0) {
    // EAGAIN: nothing to read (the descriptor does not block). EINTR: as good as nothing.
    const bool nothing = got < 0 && (errno == EAGAIN || errno == EINTR);
    return {.removed = {}, .faults = {}, .more = false, .gone = !nothing || GuestHasEnded()};
  }
  const size_t count = static_cast<size_t>(got) / sizeof(uffd_msg);
  for (size_t i = 0; i < count; ++i) Take(messages_[i]);
  SortFaults();
  SortRemoved();
  return {.removed = removed_,
          .faults = std::span(faults_).first(fault_count_),
          .more = count == kBatchMax,
          .gone = false};
}

void UffdFaultSource::NoteAnswered() {
  if (follower_ != nullptr) follower_->Follow();
}

void UffdFaultSource::Take(const uffd_msg& message) {
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      return TakeFault(message);
    case UFFD_EVENT_REMOVE:
      Count(counters_.removes);
      return TakeRemoved(message.arg.remove.start, message.arg.remove.end);
    case UFFD_EVENT_UNMAP:
      Count(counters_.unmaps);
      return TakeRemoved(message.arg.remove.start, message.arg.remove.end);
    case UFFD_EVENT_REMAP:
      Count(counters_.remaps);
      layout_changed_.store(true);
      return TakeRemoved(message.arg.remap.from, message.arg.remap.from + message.arg.remap.len);
    default:
      Count(counters_.others);
  }
}

void UffdFaultSource::TakeFault(const uffd_msg& message) {
  const auto page = map_.PageOf(VmmAddr(message.arg.pagefault.address));
  if (!page) return Count(counters_.faults_outside);
  Count(counters_.faults);
  const auto thread = static_cast<int32_t>(message.arg.pagefault.feat.ptid);
  if (follower_ != nullptr) follower_->NoteFault(thread);
  faults_[fault_count_++] = {*page, thread};
}

/// Whole pages inside [start, end), region by region: a page that is given up in part (which the
/// kernel does not do) is not given up.
void UffdFaultSource::TakeRemoved(uint64_t start, uint64_t end) {
  const Geometry& geometry = map_.geometry();
  for (size_t region = 0; region < geometry.region_count(); ++region) {
    const uint64_t base = map_.base(region).value();
    const uint64_t page_bytes = geometry.shape(region).page_size.bytes();
    const uint64_t from = std::max(start, base) - base;
    const uint64_t to = std::clamp(end, base, base + geometry.shape(region).length.value()) - base;
    const uint64_t first = (from + page_bytes - 1) / page_bytes;
    const uint64_t behind = to / page_bytes;
    if (first >= behind) continue;
    FAULTLINE_CHECK(removed_.size() < removed_.capacity());
    removed_.push_back(
        {geometry.pages_of(region).first + PageCount(first), PageCount(behind - first)});
  }
}

void UffdFaultSource::SortFaults() {
  const auto begin = faults_.begin();
  const auto end = begin + static_cast<std::ptrdiff_t>(fault_count_);
  std::sort(begin, end, PageBefore);
  fault_count_ = static_cast<size_t>(std::unique(begin, end, SamePage) - begin);
}

/// Rising, and no page in two runs.
void UffdFaultSource::SortRemoved() {
  if (removed_.empty()) return;
  std::sort(removed_.begin(), removed_.end(), RunBefore);
  size_t kept = 0;
  for (size_t i = 1; i < removed_.size(); ++i) {
    PageRun& last = removed_[kept];
    if (removed_[i].first >= last.end()) {
      removed_[++kept] = removed_[i];
    } else if (removed_[i].end() > last.end()) {
      last.count = removed_[i].end() - last.first;
    }
  }
  removed_.resize(kept + 1);
}

bool UffdFaultSource::GuestHasEnded() {
  const Nanos now = std::chrono::steady_clock::now().time_since_epoch();
  if (pidfd_ < 0 || now < next_end_check_) return false;
  next_end_check_ = now + kEndCheckInterval;
  pollfd ended{.fd = pidfd_, .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) > 0;
}

}  // namespace faultline
