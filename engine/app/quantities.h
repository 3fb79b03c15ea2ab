// The quantities of the command line: rates, sizes, durations.
#pragma once

#include <optional>
#include <string_view>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline {

/// "10Gbit", "500MiB", "125MB": per second, in bytes per second. Bits are decimal; bytes are
/// decimal (kB, MB, GB) or binary (KiB, MiB, GiB).
Result<uint64_t> ParseRate(std::string_view text);

/// "512KiB", "1MiB", "4096".
Result<ByteCount> ParseSize(std::string_view text);

/// A size, or "auto": nothing.
Result<std::optional<ByteCount>> ParseWindow(std::string_view text);

/// "auto", "off", "lz4", "zstd".
Result<wire::Compression> ParseCompression(std::string_view text);

}  // namespace faultline
