#include "engine/core/compression_policy.h"

#include <algorithm>

namespace faultline {
namespace {

using wire::Codec;
using wire::Compression;

double PerSecond(uint64_t bytes, uint64_t nanos) {
  return static_cast<double>(bytes) * 1e9 / static_cast<double>(nanos);
}

}  // namespace

CompressionPolicy::CompressionPolicy(Compression how) : how_(how) {
  if (how == Compression::kLz4) codec_ = Codec::kLz4;
  if (how == Compression::kZstd) codec_ = Codec::kZstd;
}

Codec CompressionPolicy::Next() {
  if (probe_.load(std::memory_order_relaxed) == Codec::kNone) return codec();
  const Codec probe = probe_.exchange(Codec::kNone, std::memory_order_relaxed);
  return probe == Codec::kNone ? codec() : probe;
}

void CompressionPolicy::NoteRun(Codec codec, ByteCount pages, ByteCount sent, Nanos took) {
  const auto add = [](Sum& sum, uint64_t value) {
    sum.fetch_add(value, std::memory_order_relaxed);
  };
  add(sent_, sent.value());
  if (codec == Codec::kNone || pages.value() == 0) return;
  Codecs& of = Of(codec);
  add(of.pages, pages.value());
  add(of.sent, sent.value());
  add(of.took_ns, static_cast<uint64_t>(took.count()));
  if (sent == pages) return;
  add(packed_pages_, pages.value());
  add(packed_sent_, sent.value());
}

void CompressionPolicy::OnInterval(Nanos elapsed, bool limited) {
  const uint64_t sent = sent_.exchange(0, std::memory_order_relaxed);
  for (Codecs& each : codecs_) Learn(each);
  if (how_ != Compression::kAuto || limited) return;
  NoteLink(PerSecond(sent, static_cast<uint64_t>(elapsed.count())));
  ++intervals_;
  if (intervals_ % kProbeEvery == 1) probe_.store(Codec::kLz4, std::memory_order_relaxed);
  if (intervals_ % kProbeEvery == 2) probe_.store(Codec::kZstd, std::memory_order_relaxed);
  codec_.store(IsLooking() ? Codec::kNone : Best(), std::memory_order_relaxed);
}

void CompressionPolicy::Learn(Codecs& of) {
  const uint64_t pages = of.pages.exchange(0, std::memory_order_relaxed);
  const uint64_t sent = of.sent.exchange(0, std::memory_order_relaxed);
  const uint64_t took_ns = of.took_ns.exchange(0, std::memory_order_relaxed);
  if (pages == 0 || sent == 0 || took_ns == 0) return;
  const double rate = PerSecond(pages, took_ns);
  const double ratio = static_cast<double>(pages) / static_cast<double>(sent);
  of.ratio = of.rate > 0 ? (of.ratio + ratio) / 2 : ratio;
  of.rate = of.rate > 0 ? (of.rate + rate) / 2 : rate;
}

// Packed, the link may stand idle for the source: then it is at least as fast as that.
void CompressionPolicy::NoteLink(double rate) {
  const bool first_look = intervals_ % kLookEvery == 1;
  link_ = first_look && IsLooking() ? rate : std::max(link_, rate);
}

Codec CompressionPolicy::Best() const {
  Codec best = Codec::kNone;
  double most = link_ * kWorth;
  for (const Codec codec : {Codec::kLz4, Codec::kZstd}) {
    const Codecs& of = codecs_[codec == Codec::kLz4 ? 0 : 1];
    const double brings = std::min(link_ * of.ratio, of.rate);
    if (brings <= most) continue;
    most = brings;
    best = codec;
  }
  return best;
}

}  // namespace faultline
