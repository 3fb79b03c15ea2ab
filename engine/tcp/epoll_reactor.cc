#include "engine/tcp/epoll_reactor.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/core/check.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/epoll_channel.h"

namespace faultline {
namespace {

// epoll_event::data: the token of a watch, or kLaneBase plus the slot of a lane.
constexpr uint64_t kLaneBase = 64;
using Events = std::array<epoll_event, 16>;

void Control(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  FAULTLINE_CHECK(::epoll_ctl(epoll, operation, fd, &event) == 0);
}

/// Nanoseconds count here: epoll_wait's milliseconds would put off a fault.
int WaitFor(int epoll, Events& events, Nanos timeout) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(timeout);
  const timespec time{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
  return ::epoll_pwait2(epoll, events.data(), static_cast<int>(events.size()), &time, nullptr);
}

}  // namespace

Result<std::unique_ptr<EpollReactor>> EpollReactor::Create() {
  tcp::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) {
    return Fail(ErrorKind::kSystem, fmt::format("setting up epoll: {}", std::strerror(errno)));
  }
  Events none;
  if (WaitFor(epoll.get(), none, Nanos::zero()) < 0) {
    return Fail(ErrorKind::kSystem,
                fmt::format("setting up epoll: epoll_pwait2: {}; Linux 5.11 is needed",
                            std::strerror(errno)));
  }
  return std::unique_ptr<EpollReactor>(new EpollReactor(std::move(epoll)));
}

ReadySet EpollReactor::Wait(Nanos timeout) {
  Nanos now = tcp::MonotonicNow();
  const Nanos deadline = now + timeout;
  bool may_look = timeout > Nanos::zero();
  do {
    FlushLanes(now);
    if (may_look) LookForReply(now);
    may_look = false;
    CollectNews();
    WaitOnce(ready_.empty() ? std::min(deadline - now, kSilenceCheckPeriod) : Nanos::zero());
    CollectNews();
    now = tcp::MonotonicNow();
  } while (ready_.empty() && now < deadline);
  return std::exchange(ready_, ReadySet());
}

/// What else comes meanwhile waits for as long as that takes.
void EpollReactor::LookForReply(Nanos now) {
  const auto lane = std::find_if(lanes_.begin(), lanes_.end(), [](Lane* candidate) {
    return candidate != nullptr && candidate->LooksForReply();
  });
  if (lane == lanes_.end()) return;
  const Nanos until = now + kReplyLookFor;
  while (!(*lane)->HasNews() && tcp::MonotonicNow() < until) (*lane)->OnReady(EPOLLIN);
  (*lane)->NoteLooked((*lane)->HasNews());
}

void EpollReactor::FlushLanes(Nanos now) {
  for (Lane* lane : lanes_) {
    if (lane != nullptr) lane->Flush(now);
  }
}

void EpollReactor::WaitOnce(Nanos timeout) {
  Events events;
  const int count = WaitFor(epoll_.get(), events, timeout);
  FAULTLINE_CHECK(count >= 0 || errno == EINTR);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    if (event.data.u64 < kLaneBase) {
      ready_.Add(static_cast<ReadyToken>(event.data.u64));
    } else if (Lane* lane = lanes_[event.data.u64 - kLaneBase]; lane != nullptr) {
      lane->OnReady(event.events);
    }
  }
}

void EpollReactor::CollectNews() {
  for (const Lane* lane : lanes_) {
    if (lane != nullptr && lane->HasNews()) ready_.Add(ReadyToken::kLane);
  }
}

void EpollReactor::Watch(int fd, ReadyToken token) {
  int& watched = watches_[static_cast<size_t>(token)];
  FAULTLINE_CHECK(fd >= 0 && watched < 0);
  watched = fd;
  Control(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN, static_cast<uint64_t>(token));
}

void EpollReactor::Unwatch(ReadyToken token) {
  const int fd = std::exchange(watches_[static_cast<size_t>(token)], -1);
  if (fd >= 0) Control(epoll_.get(), EPOLL_CTL_DEL, fd, 0, 0);
}

size_t EpollReactor::SlotOf(const Lane& lane) const {
  const auto slot = std::find(lanes_.begin(), lanes_.end(), &lane);
  FAULTLINE_CHECK(slot != lanes_.end());
  return static_cast<size_t>(slot - lanes_.begin());
}

void EpollReactor::Attach(Lane& lane, int fd) {
  const auto slot = std::find(lanes_.begin(), lanes_.end(), nullptr);
  FAULTLINE_CHECK(slot != lanes_.end());
  *slot = &lane;
  Control(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN, kLaneBase + SlotOf(lane));
}

void EpollReactor::Detach(Lane& lane, int fd) {
  lanes_[SlotOf(lane)] = nullptr;
  Control(epoll_.get(), EPOLL_CTL_DEL, fd, 0, 0);
}

void EpollReactor::WantWritable(Lane& lane, int fd, bool wanted) {
  const uint32_t events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
  Control(epoll_.get(), EPOLL_CTL_MOD, fd, events, kLaneBase + SlotOf(lane));
}

std::unique_ptr<PageChannel> EpollReactor::OpenLane(tcp::UniqueFd socket, LandingArea& area,
                                                    Nanos silence_max, Unpacker* unpacker) {
  return std::make_unique<EpollChannel>(std::move(socket), area, silence_max, unpacker, *this);
}

}  // namespace faultline
