// How many bulk bytes may be in flight: enough to keep the link busy, and no more, because every
// byte beyond that is a queue in which demand fetches stand too.
//
//   window = bandwidth × (base round trip + queue)
//
//   bandwidth        the highest rate of the last intervals. One in which something else than the
//                    window held the pushers back says nothing about the link, unless it was faster
//   base round trip  of a run: the lowest seen. It is measured anew now and then with the window
//                    almost shut, or a standing queue of our own would pass for a longer path
//   queue            what may wait on the way, so that neither end's hiccups starve the link, and
//                    work comes in batches. While the rate still grows with the window: another
//                    round trip more
//
// Demand fetches have the last word on the queue. It grows while their own round trips show little
// of it (then it stands where they do not pass: in our own sockets), or there are none to suffer,
// and shrinks where they take kDelay longer than their base. A fault on a page that is in flight
// already waits for the queue where it cannot overtake it (overtakable_landing.h), and where it
// can the page crosses the wire twice: so the queue is only as long as such pages are few among
// those that are missing, and hardly a fault meets one. To the end that is less and less, down to
// kQueueLeast or a quarter of the base round trip.
//
// Sources: BBR, draft-cardwell-iccrg-bbr-congestion-control (bandwidth and base round trip as two
// filters, application-limited samples, leaving start-up after three rounds without 25 % of growth,
// ProbeRTT); LEDBAT, RFC 6817 (a target for the queueing delay over a base delay, minimum filter).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/core/units.h"

namespace faultline {

/// What an interval saw, all streams together.
struct LinkSample {
  Nanos elapsed{};
  ByteCount delivered{};
  Nanos run_round_trip{};     ///< the lowest, posted to complete; zero: none
  Nanos urgent_round_trip{};  ///< the lowest of a demand fetch; zero: none
  ByteCount missing{};        ///< at its end
  bool limited = false;       ///< a pause, a rate limit, or nothing left to ask for
};

/// Pure: no clock, no threads.
class WindowController {
 public:
  static constexpr ByteCount kLeast{uint64_t{16} * 1024};
  static constexpr ByteCount kMost{uint64_t{32} * 1024 * 1024};
  static constexpr ByteCount kStart{uint64_t{256} * 1024};
  static constexpr Nanos kIntervalMin{5'000'000};
  static constexpr Nanos kQueueAtFirst{400'000};
  static constexpr Nanos kQueueMost{1'600'000};
  static constexpr Nanos kQueueLeast{50'000};
  /// Of what is missing, one part in so many may wait in the queue, if it is not the shortest.
  static constexpr uint64_t kRarely = 256;
  static constexpr Nanos kDelay{150'000};
  static constexpr Nanos kBaseLife{10'000'000'000};

  /// REQUIRES: elapsed > 0.
  void OnInterval(const LinkSample& sample);

  /// Between kLeast and kMost.
  [[nodiscard]] ByteCount window() const { return draining_ ? kLeast : window_; }
  /// So much of the window may stand empty until more is asked for, at most half of it: work then
  /// comes in batches, and the link still has half of the queue to carry.
  [[nodiscard]] ByteCount slack() const;
  /// How long the next sample should be, at least.
  [[nodiscard]] Nanos interval() const;
  /// Bytes per second; zero: not known yet.
  [[nodiscard]] uint64_t bandwidth() const { return bandwidth_; }

 private:
  static constexpr size_t kRates = 8;   ///< how many intervals a rate is remembered
  static constexpr int kStallsMax = 3;  ///< intervals without growth that end the start-up

  void NoteRate(const LinkSample& sample);
  void NoteBases(const LinkSample& sample);
  void NoteUrgent(Nanos round_trip);
  void LookForGrowth();
  [[nodiscard]] Nanos Queue() const;
  [[nodiscard]] Nanos Held() const;
  [[nodiscard]] ByteCount Fitting() const;
  [[nodiscard]] ByteCount CarriedIn(Nanos time) const;

  ByteCount window_ = kStart;
  std::array<uint64_t, kRates> rates_{};
  size_t next_rate_ = 0;
  uint64_t bandwidth_ = 0;
  bool starting_ = true;
  uint64_t grown_to_ = 0;
  int stalls_ = 0;
  Nanos base_{0};         ///< zero: not known yet
  Nanos urgent_base_{0};  ///< zero: not known yet
  Nanos base_age_{0};
  bool draining_ = false;
  Nanos queue_ = kQueueAtFirst;
  ByteCount missing_{};
};

}  // namespace faultline
