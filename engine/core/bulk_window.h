// The window of all bulk lanes together, shared by their pushers without a lock: each says what
// arrived on its lane, whoever finds the interval over has the controller look at it, and each
// takes its share of the answer.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

#include "engine/core/compression_policy.h"
#include "engine/core/lowest_delay.h"
#include "engine/core/units.h"
#include "engine/core/window_controller.h"

namespace faultline {

/// Threads: any. Nothing here allocates or waits.
class BulkWindow {
 public:
  /// `fixed`: the window is that, whatever the link does; zero: it follows the link.
  /// REQUIRES: streams > 0.
  explicit BulkWindow(uint32_t streams, ByteCount fixed = ByteCount(0),
                      wire::Compression compression = wire::Compression::kOff)
      : streams_(streams), fixed_(fixed), compression_(compression) {
    Publish();
  }

  /// One stream's part of the window.
  [[nodiscard]] ByteCount Share() const {
    return ByteCount(window_bytes_.load(std::memory_order_relaxed) / streams_);
  }
  /// So much of a share may stand empty until more is asked for.
  [[nodiscard]] ByteCount Slack() const {
    return ByteCount(slack_bytes_.load(std::memory_order_relaxed) / streams_);
  }
  /// The longest run worth asking for: two of them fit the window, so that one is on its way while
  /// the other is asked for, be it by another stream, and a share has room to spare. A slow link
  /// gets short runs: whoever waits behind one waits less. Short ones at first, too: their round
  /// trip is nearly that of the path.
  [[nodiscard]] ByteCount RunBytes() const {
    if (fixed_.value() > 0) return kRunBytesMax;
    if (bandwidth() == 0) return WindowController::kLeast;
    const uint64_t fits = std::min(Share().value() * 3 / 4, window().value() / 2);
    const ByteCount run(std::bit_floor(std::max<uint64_t>(fits, 1)));
    return std::clamp(run, WindowController::kLeast, kRunBytesMax);
  }
  [[nodiscard]] ByteCount window() const {
    return ByteCount(window_bytes_.load(std::memory_order_relaxed));
  }
  /// Bytes per second, all streams together; zero: not known yet.
  [[nodiscard]] uint64_t bandwidth() const { return bandwidth_.load(std::memory_order_relaxed); }

  /// `zero`: pages that came as bits.
  void NoteArrived(ByteCount data, ByteCount zero) {
    data_.fetch_add(data.value(), std::memory_order_relaxed);
    zero_.fetch_add(zero.value(), std::memory_order_relaxed);
  }
  /// A pusher had nothing to ask for, or was not allowed to.
  void NoteLimited() { limited_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] LowestDelay& run_trips() { return run_trips_; }
  /// Demand fetches, posted to landed.
  [[nodiscard]] LowestDelay& urgent_trips() { return urgent_trips_; }

  /// What the lanes ask with, and tell. It measures in the window's intervals.
  [[nodiscard]] CompressionPolicy& compression() { return compression_; }
  [[nodiscard]] const CompressionPolicy& compression() const { return compression_; }

  /// To be called now and then. What another thread is doing at this moment is left to it.
  /// `missing`: what is not at the destination yet, about.
  void Update(Nanos now, ByteCount missing) {
    if (busy_.test_and_set(std::memory_order_acquire)) return;
    if (began_ == Nanos(0)) {
      Begin(now);
    } else if (IsOver(now - began_)) {
      Look(now, missing);
    }
    busy_.clear(std::memory_order_release);
  }

 private:
  /// On a slow link an interval goes on until what it saw is a rate, and no single run.
  static constexpr int kLongest = 40;

  [[nodiscard]] bool IsOver(Nanos elapsed) const {
    const Nanos least = controller_.interval();
    const bool enough = data_.load(std::memory_order_relaxed) >= window().value();
    return elapsed >= least && (enough || elapsed >= least * kLongest);
  }
  void Begin(Nanos now) {
    data_.store(0, std::memory_order_relaxed);
    zero_.store(0, std::memory_order_relaxed);
    began_ = now;
  }
  void Look(Nanos now, ByteCount missing) {
    const ByteCount data(data_.exchange(0, std::memory_order_relaxed));
    const ByteCount zero(zero_.exchange(0, std::memory_order_relaxed));
    // The window counts pages, whatever they hold. Where most are zero they say nothing about the
    // link, and a window that believed them would be far too large for the data that follows.
    const bool mostly_zero = zero > data;
    const bool limited = limited_.exchange(false, std::memory_order_relaxed);
    controller_.OnInterval({.elapsed = now - began_,
                            .delivered = mostly_zero ? data : data + zero,
                            .run_round_trip = run_trips_.Take(),
                            .urgent_round_trip = urgent_trips_.Take(),
                            .missing = missing,
                            .limited = limited || mostly_zero});
    compression_.OnInterval(now - began_, limited || mostly_zero);
    began_ = now;
    Publish();
  }
  void Publish() {
    const ByteCount window = fixed_.value() > 0 ? fixed_ : controller_.window();
    window_bytes_.store(window.value(), std::memory_order_relaxed);
    const ByteCount slack = fixed_.value() > 0 ? ByteCount(0) : controller_.slack();
    slack_bytes_.store(slack.value(), std::memory_order_relaxed);
    bandwidth_.store(controller_.bandwidth(), std::memory_order_relaxed);
  }

  const uint32_t streams_;
  const ByteCount fixed_;
  CompressionPolicy compression_;
  std::atomic<uint64_t> window_bytes_{0};
  std::atomic<uint64_t> slack_bytes_{0};
  std::atomic<uint64_t> bandwidth_{0};
  std::atomic<uint64_t> data_{0};
  std::atomic<uint64_t> zero_{0};
  std::atomic<bool> limited_{false};
  LowestDelay run_trips_;
  LowestDelay urgent_trips_;
  std::atomic_flag busy_;  ///< guards both below
  WindowController controller_;
  Nanos began_{0};
};

}  // namespace faultline
