// Packing of runs on bulk lanes: LZ4 (doc/lz4_Block_format.md) and Zstandard (RFC 8878).
//
// Each run is a block of its own: one lost lane costs nothing, and any run can be asked for again.
// What is unpacked came from a peer that may lie: both libraries bound what they read and write,
// and a block that is not exactly the pages it stands for is refused.
//
// One thread each. They allocate when made and never afterwards.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/compression_policy.h"
#include "engine/core/page_server.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace faultline {

/// The source's.
class Packer {
 public:
  Packer();
  ~Packer();
  /// The pages of `plan`, packed; valid until the next call. Nothing: it would save less than an
  /// eighth. REQUIRES: codec is not kNone.
  std::span<const std::byte> Pack(const ReplyPlan& plan, wire::Codec codec);

 private:
  std::span<const std::byte> Joined(const ReplyPlan& plan);

  std::vector<std::byte> joined_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> lz4_state_;
  std::unique_ptr<ZSTD_CCtx_s, size_t (*)(ZSTD_CCtx_s*)> zstd_;
};

/// The destination's, of one lane.
class Unpacker {
 public:
  /// `policy` outlives it.
  explicit Unpacker(CompressionPolicy& policy);
  ~Unpacker();

  [[nodiscard]] CompressionPolicy& policy() { return policy_; }
  /// Where packed bytes are received.
  [[nodiscard]] std::span<std::byte> packed() { return packed_; }
  /// Where pages are unpacked that do not lie side by side.
  [[nodiscard]] std::span<std::byte> scratch() { return scratch_; }
  /// False: the first `bytes` of packed() are not `out`. Then what `out` holds means nothing.
  bool Unpack(wire::Codec codec, size_t bytes, std::span<std::byte> out);

 private:
  CompressionPolicy& policy_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> scratch_;
  std::unique_ptr<ZSTD_DCtx_s, size_t (*)(ZSTD_DCtx_s*)> zstd_;
};

}  // namespace faultline
