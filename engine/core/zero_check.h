#pragma once

#include <cstddef>
#include <span>

namespace faultline {

/// True if every byte is zero. Any alignment, any length. Data in the first 64 bytes, which nearly
/// every page with data has, is seen at once; a page of zeroes takes as long as reading it.
bool IsAllZero(std::span<const std::byte> bytes);

}  // namespace faultline
