// A Reactor for a thread that has a lane of READs: another reactor, for everything that has a
// descriptor, plus the lane's completion queue, which is cheapest when polled.
//
//   Wait:  1 one doorbell for the READs that are queued
//          2 poll for completions, for a short bounded time if they are expected within it
//          3 else ask the completion queue to announce the next one, look once more (what
//            completed before the request is not announced), and sleep in the other reactor
//
// After a poll that brought something, the others are not looked at: the page goes first. They are
// looked at by the next Wait.
#pragma once

#include "engine/core/reactor.h"

namespace faultline::rdma {

class ReadChannel;

/// Used by one thread.
class ReadReactor final : public Reactor {
 public:
  /// How often a Wait looks whether the lane is silent.
  static constexpr Nanos kSilenceCheckPeriod = std::chrono::milliseconds(250);

  /// `inner` outlives it. `spin_max`: how long a poll may take at most; zero: one look.
  ReadReactor(Reactor& inner, Nanos spin_max) : inner_(inner), spin_max_(spin_max) {}

  void Watch(int fd, ReadyToken token) override { inner_.Watch(fd, token); }
  void Unwatch(ReadyToken token) override { inner_.Unwatch(token); }
  ReadySet Wait(Nanos timeout) override;

  // For the lane.
  void Attach(ReadChannel& lane);
  void Detach();

 private:
  bool PollFor(Nanos longest);

  Reactor& inner_;
  const Nanos spin_max_;
  ReadChannel* lane_ = nullptr;
  unsigned slow_waits_ = 0;
  bool inner_due_ = false;  ///< the last Wait did not look at the others
};

}  // namespace faultline::rdma
