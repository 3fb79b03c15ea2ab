// Whether the next run of a bulk lane is asked for packed, and how.
//
// `auto`: with the codec that brings most pages a second, if it brings noticeably more than the
// link does with pages as they are:
//
//   link × ratio, but never more than one thread of the source packs
//
// All three are measured. The source says with each packed run what packing it took; single runs
// are asked for packed now and then to know it beforehand. The link's rate is what crosses it while
// nothing is packed: for a moment each second it is left so, to see whether it has become faster.
//
// Threads: any, without a lock; OnInterval by one at a time. Nothing here allocates or waits.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline {

class CompressionPolicy {
 public:
  explicit CompressionPolicy(wire::Compression how);

  /// Lanes have to be able to unpack.
  [[nodiscard]] bool may_ask() const { return how_ != wire::Compression::kOff; }
  /// How the next run is to be asked for.
  wire::Codec Next();
  /// A run has arrived that was asked for so: `pages` as they are, `sent` on the wire.
  void NoteRun(wire::Codec codec, ByteCount pages, ByteCount sent, Nanos took);
  /// `limited`: the interval says nothing about the link.
  void OnInterval(Nanos elapsed, bool limited);

  [[nodiscard]] wire::Codec codec() const { return codec_.load(std::memory_order_relaxed); }
  /// Of runs that came packed: pages, and what crossed the wire for them.
  [[nodiscard]] ByteCount packed_pages() const { return Load(packed_pages_); }
  [[nodiscard]] ByteCount packed_sent() const { return Load(packed_sent_); }

 private:
  static constexpr uint64_t kProbeEvery = 32;  ///< intervals
  static constexpr uint64_t kLookEvery = 200;
  static constexpr uint64_t kLookFor = 4;
  static constexpr double kWorth = 1.1;

  using Sum = std::atomic<uint64_t>;
  struct Codecs {
    Sum pages{0};
    Sum sent{0};
    Sum took_ns{0};
    double rate = 0;  ///< one thread's, bytes of pages a second; zero: not known
    double ratio = 1;
  };

  static ByteCount Load(const Sum& sum) { return ByteCount(sum.load(std::memory_order_relaxed)); }
  static void Learn(Codecs& of);
  void NoteLink(double rate);
  [[nodiscard]] bool IsLooking() const { return intervals_ % kLookEvery < kLookFor; }
  [[nodiscard]] wire::Codec Best() const;
  Codecs& Of(wire::Codec codec) { return codecs_[codec == wire::Codec::kLz4 ? 0 : 1]; }

  const wire::Compression how_;
  std::atomic<wire::Codec> codec_{wire::Codec::kNone};
  std::atomic<wire::Codec> probe_{wire::Codec::kNone};  ///< for one run
  Sum sent_{0};
  Sum packed_pages_{0};
  Sum packed_sent_{0};
  std::array<Codecs, 2> codecs_;
  double link_ = 0;  ///< bytes a second
  uint64_t intervals_ = 0;
};

}  // namespace faultline
