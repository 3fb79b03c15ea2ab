#include "engine/tcp/packing.h"

#include <lz4.h>
#include <zstd.h>

#include <cstring>

#include "engine/core/check.h"

namespace faultline {
namespace {

constexpr int kZstdLevel = 1;
constexpr size_t kRunBytes = kRunBytesMax.value();

const char* Chars(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }
char* Chars(std::byte* bytes) { return reinterpret_cast<char*>(bytes); }

}  // namespace

Packer::Packer()
    : joined_(kRunBytes),
      packed_(kRunBytes),
      lz4_state_(static_cast<size_t>(LZ4_sizeofState())),
      zstd_(ZSTD_createCCtx(), ZSTD_freeCCtx) {
  FAULTLINE_CHECK(zstd_ != nullptr);
  // It allocates its tables with the first run of that size.
  static_cast<void>(ZSTD_compressCCtx(zstd_.get(), packed_.data(), packed_.size(), joined_.data(),
                                      joined_.size(), kZstdLevel));
}

Packer::~Packer() = default;

std::span<const std::byte> Packer::Pack(const ReplyPlan& plan, wire::Codec codec) {
  FAULTLINE_CHECK(codec != wire::Codec::kNone);
  const size_t size = plan.data_bytes.value();
  if (size == 0 || size > kRunBytes) return {};
  const std::span<const std::byte> pages = Joined(plan);
  const size_t room = size - size / 8;
  if (codec == wire::Codec::kLz4) {
    const int got =
        LZ4_compress_fast_extState(lz4_state_.data(), Chars(pages.data()), Chars(packed_.data()),
                                   static_cast<int>(size), static_cast<int>(room), 1);
    return std::span(packed_).first(got > 0 ? static_cast<size_t>(got) : 0);
  }
  const size_t got =
      ZSTD_compressCCtx(zstd_.get(), packed_.data(), room, pages.data(), size, kZstdLevel);
  return std::span(packed_).first(ZSTD_isError(got) != 0 ? 0 : got);
}

std::span<const std::byte> Packer::Joined(const ReplyPlan& plan) {
  if (plan.segment_count == 1) return plan.segments[0];
  size_t at = 0;
  for (size_t i = 0; i < plan.segment_count; ++i) {
    const std::span<const std::byte> segment = plan.segments[i];
    std::memcpy(joined_.data() + at, segment.data(), segment.size());
    at += segment.size();
  }
  return std::span(joined_).first(at);
}

Unpacker::Unpacker(CompressionPolicy& policy)
    : policy_(policy),
      packed_(kRunBytes),
      scratch_(kRunBytes),
      zstd_(ZSTD_createDCtx(), ZSTD_freeDCtx) {
  FAULTLINE_CHECK(zstd_ != nullptr);
}

Unpacker::~Unpacker() = default;

bool Unpacker::Unpack(wire::Codec codec, size_t bytes, std::span<std::byte> out) {
  FAULTLINE_CHECK(bytes <= packed_.size() && out.size() <= kRunBytes);
  if (codec == wire::Codec::kLz4) {
    const int got = LZ4_decompress_safe(Chars(packed_.data()), Chars(out.data()),
                                        static_cast<int>(bytes), static_cast<int>(out.size()));
    return got >= 0 && static_cast<size_t>(got) == out.size();
  }
  // An error is a number larger than any size.
  return codec == wire::Codec::kZstd && ZSTD_decompressDCtx(zstd_.get(), out.data(), out.size(),
                                                            packed_.data(), bytes) == out.size();
}

}  // namespace faultline
