#include "engine/core/window_controller.h"

#include <algorithm>

#include "engine/core/check.h"

namespace faultline {
namespace {

__extension__ using Wide = unsigned __int128;  // bytes × nanoseconds do not fit 64 bits
constexpr uint64_t kNanosPerSecond = 1'000'000'000;

uint64_t RateOf(ByteCount bytes, Nanos elapsed) {
  const Wide scaled = Wide{bytes.value()} * kNanosPerSecond;
  return static_cast<uint64_t>(scaled / static_cast<uint64_t>(elapsed.count()));
}

/// Zero stands for "none" in both.
Nanos Lower(Nanos a, Nanos b) {
  if (a == Nanos(0) || b == Nanos(0)) return std::max(a, b);
  return std::min(a, b);
}

}  // namespace

void WindowController::OnInterval(const LinkSample& sample) {
  FAULTLINE_CHECK(sample.elapsed > Nanos(0));
  NoteRate(sample);
  NoteBases(sample);
  NoteUrgent(sample.urgent_round_trip);
  missing_ = sample.missing;
  if (bandwidth_ > 0 && base_ > Nanos(0)) window_ = Fitting();
}

void WindowController::NoteRate(const LinkSample& sample) {
  const uint64_t rate = RateOf(sample.delivered, sample.elapsed);
  const bool says_nothing = sample.limited || draining_ || rate == 0;
  if (says_nothing && rate <= bandwidth_) return;
  rates_[next_rate_] = rate;
  next_rate_ = (next_rate_ + 1) % kRates;
  bandwidth_ = *std::max_element(rates_.begin(), rates_.end());
  LookForGrowth();
}

void WindowController::LookForGrowth() {
  if (bandwidth_ > grown_to_ + grown_to_ / 4) {
    grown_to_ = bandwidth_;
    stalls_ = 0;
  } else if (++stalls_ >= kStallsMax) {
    starting_ = false;
  }
}

void WindowController::NoteBases(const LinkSample& sample) {
  if (draining_) {
    // What came in this interval met no queue of ours; nothing came: as it was.
    if (sample.run_round_trip > Nanos(0)) base_ = sample.run_round_trip;
    if (sample.urgent_round_trip > Nanos(0)) urgent_base_ = sample.urgent_round_trip;
    draining_ = false;
    return;
  }
  base_ = Lower(base_, sample.run_round_trip);
  urgent_base_ = Lower(urgent_base_, sample.urgent_round_trip);
  base_age_ += sample.elapsed;
  if (base_age_ < kBaseLife) return;
  base_age_ = Nanos(0);
  draining_ = true;
}

// Without a fetch in this interval the last one's word stands; without any ever, nobody suffers.
void WindowController::NoteUrgent(Nanos round_trip) {
  const bool unheard = round_trip == Nanos(0) && urgent_base_ > Nanos(0);
  if (unheard) return;
  const Nanos delay = round_trip - urgent_base_;
  if (delay > kDelay) {
    queue_ = std::max(queue_ * 3 / 4, kQueueLeast);
  } else if (delay < kDelay / 2) {
    queue_ = std::min(queue_ * 5 / 4, kQueueMost);
  }
}

Nanos WindowController::Queue() const {
  if (bandwidth_ == 0) return queue_;
  const Wide rarely = Wide{missing_.value() / kRarely} * kNanosPerSecond / bandwidth_;
  const auto most = static_cast<Nanos::rep>(std::min<Wide>(rarely, kQueueMost.count()));
  return std::min(queue_, std::max(Nanos(most), kQueueLeast));
}

Nanos WindowController::Held() const {
  return base_ + std::max(Queue(), starting_ ? base_ : base_ / 4);
}

Nanos WindowController::interval() const { return std::max(kIntervalMin, 2 * Held()); }

ByteCount WindowController::Fitting() const { return std::clamp(CarriedIn(Held()), kLeast, kMost); }

ByteCount WindowController::slack() const {
  return std::min(CarriedIn(Queue() / 2), ByteCount(window().value() / 2));
}

/// Of what the bandwidth carries in `time`, as much as the largest window may hold.
ByteCount WindowController::CarriedIn(Nanos time) const {
  const Wide bytes = Wide{bandwidth_} * static_cast<uint64_t>(time.count()) / kNanosPerSecond;
  return ByteCount(static_cast<uint64_t>(std::min<Wide>(bytes, kMost.value())));
}

}  // namespace faultline
