#include "engine/tcp/request_wait.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/tcp/deadline.h"

namespace faultline::tcp {
namespace {

constexpr Nanos kSoon = std::chrono::milliseconds(10);

}  // namespace

RequestWait::~RequestWait() {
  if (incoming_ != FaultCores::kAnywhere) Say(FaultCores::kAnywhere);
}

bool RequestWait::ChooseToLook(Nanos now) {
  looks_ = HasCoreToSpare(now) && policy_.Pays();
  return looks_;
}

bool RequestWait::HasCoreToSpare(Nanos now) {
  if (incoming_ == FaultCores::kAnywhere || now < paused_until_) return false;
  const int lanes = cores_ != nullptr ? cores_->Taken() : 1;
  const bool beside_bulk = cores_ != nullptr && cores_->BulkAtWork(now);
  return allowed_count_ >= lanes + kCoresOfOthers + (beside_bulk ? kCoresOfBulk : 0);
}

ssize_t RequestWait::Receive(int socket, std::span<std::byte> into) {
  if (allowed_count_ == 0) NoteAllowed();
  std::optional<ssize_t> looked;
  if (looks_ && GoTo(Place::kOffIncoming)) {
    looked = Look(socket, into);
  } else if (incoming_ != FaultCores::kAnywhere) {
    GoTo(Place::kOnIncoming);
  }
  const ssize_t got = looked ? *looked : ::recv(socket, into.data(), into.size(), 0);
  if (got > 0) NoteReceived(socket);
  return got;
}

/// Before the first request.
void RequestWait::NoteAllowed() {
  const bool known = ::sched_getaffinity(0, sizeof allowed_, &allowed_) == 0;
  allowed_count_ = known ? CPU_COUNT(&allowed_) : 1;
}

/// Nothing: it did not come in time.
std::optional<ssize_t> RequestWait::Look(int socket, std::span<std::byte> into) {
  Nanos now = MonotonicNow();
  Nanos until = now + kLookFor;
  while (now < until) {
    const ssize_t got = ::recv(socket, into.data(), into.size(), MSG_DONTWAIT);
    if (got >= 0 || errno != EAGAIN) {
      policy_.NoteLooked(true);
      return got;
    }
    const Nanos before = now;
    now = MonotonicNow();
    if (now - before < kTakenAway) continue;
    if (WasPreempted()) {
      Pause(now);
      return std::nullopt;
    }
    until += now - before;  // that was no looking
  }
  policy_.NoteLooked(false);
  return std::nullopt;
}

/// Somebody else was given the core; not an interrupt, nor whoever runs this machine.
bool RequestWait::WasPreempted() {
  rusage usage{};
  if (::getrusage(RUSAGE_THREAD, &usage) != 0) return true;
  return std::exchange(preemptions_, usage.ru_nivcsw) != usage.ru_nivcsw;
}

void RequestWait::Pause(Nanos now) {
  const bool again = now < paused_until_ + kSoon;
  pause_ = again ? std::min(2 * pause_, kPauseMost) : kPauseLeast;
  paused_until_ = now + pause_;
}

/// Looks up now and then where packets are processed. Now: the last one was a request, which an
/// acknowledgement of our answer, processed elsewhere, follows.
void RequestWait::NoteReceived(int socket) {
  if (++received_ % kLookUpEvery != kLookUpFirst) return;
  int core = -1;
  socklen_t size = sizeof core;
  if (::getsockopt(socket, SOL_SOCKET, SO_INCOMING_CPU, &core, &size) != 0) return;
  if (core < 0 || core >= CPU_SETSIZE || core == incoming_) return;
  place_ = Place::kAnywhere;
  Say(core);
}

/// False: not allowed there (a cpuset), or there is no such core; anywhere else is right as well.
bool RequestWait::GoTo(Place place) {
  if (place == place_) return true;
  const auto index = static_cast<size_t>(incoming_);
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (place == Place::kOnIncoming) {
    CPU_SET(index, &cores);
  } else {
    cores = allowed_;
    CPU_CLR(index, &cores);
  }
  place_ = place;
  if (::sched_setaffinity(0, sizeof cores, &cores) == 0) return true;
  allowed_count_ = 1;  // the cpuset has changed: no more looking, nor asking with each request
  return false;
}

void RequestWait::Say(int core) {
  incoming_ = core;
  if (cores_ != nullptr) cores_->Set(slot_, core);
}

}  // namespace faultline::tcp
