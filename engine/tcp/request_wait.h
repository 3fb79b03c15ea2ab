// How the source's urgent lane waits for its next request.
//
//   sleeping  on the core where the connection's packets are processed: there it is woken for the
//             least;
//   looking   on any other, again and again, for kLookFor (and then sleeping, if it must, where it
//             is): the guest's fault pays for no wake-up at all. The guest here stands still, so
//             there are cores to spare.
//
// It looks while requests tend to come in that time (engine/core/spin_policy.h) and a core is to
// spare: not where bulk lanes are at work on all there are, and not for a while after somebody else
// was seen to want the same core, a longer while if that is so each time. The reply says which it
// will be, so that the destination knows whether its own looking can pay.
//
// Source: socket(7), SO_INCOMING_CPU; sched_setaffinity(2); getrusage(2), ru_nivcsw.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>

#include "engine/core/fault_cores.h"
#include "engine/core/spin_policy.h"
#include "engine/core/units.h"

namespace faultline::tcp {

/// One thread: the one that waits. Allocates nothing.
class RequestWait {
 public:
  static constexpr Nanos kLookFor = std::chrono::microseconds(100);
  static constexpr Nanos kPauseLeast = std::chrono::microseconds(250);
  static constexpr Nanos kPauseMost = std::chrono::milliseconds(1000);

  /// Where the lane's packets are processed it says in `slot` of `cores`, which outlives it; null:
  /// nobody wants to know.
  RequestWait(FaultCores* cores, size_t slot) : cores_(cores), slot_(slot) {}
  RequestWait(const RequestWait&) = delete;
  RequestWait& operator=(const RequestWait&) = delete;
  ~RequestWait();

  /// Chooses how the next request is awaited; true: by looking. For the reply that leaves now.
  bool ChooseToLook(Nanos now);
  /// recv(2), which waits as was chosen; at first by sleeping.
  ssize_t Receive(int socket, std::span<std::byte> into);

 private:
  enum class Place { kAnywhere, kOnIncoming, kOffIncoming };

  static constexpr unsigned kLookUpEvery = 16;
  static constexpr unsigned kLookUpFirst = 4;
  /// Between two looks: somebody else has had the core.
  static constexpr Nanos kTakenAway = std::chrono::microseconds(150);
  /// Besides one for each urgent lane: the guest's where this is its host too, …
  static constexpr int kCoresOfOthers = 1;
  /// … and one for whoever moves bulk at either end.
  static constexpr int kCoresOfBulk = 2;

  [[nodiscard]] bool HasCoreToSpare(Nanos now);
  void NoteAllowed();
  std::optional<ssize_t> Look(int socket, std::span<std::byte> into);
  bool WasPreempted();
  void Pause(Nanos now);
  void NoteReceived(int socket);
  bool GoTo(Place place);
  void Say(int core);

  FaultCores* const cores_;
  const size_t slot_;
  SpinPolicy policy_;
  bool looks_ = false;
  Nanos pause_ = kPauseLeast;
  Nanos paused_until_{};
  long preemptions_ = 0;   ///< when last looked up: those since then count, short ones too
  unsigned received_ = 0;  ///< times
  int incoming_ = FaultCores::kAnywhere;
  Place place_ = Place::kAnywhere;
  int allowed_count_ = 0;  ///< 0: not asked yet
  cpu_set_t allowed_{};    ///< where the thread may be
};

}  // namespace faultline::tcp
