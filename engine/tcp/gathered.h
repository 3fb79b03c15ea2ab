// What a sendmsg gathers: a list of pieces, and what is left of it when only part has gone.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

namespace faultline::tcp {

/// One piece. sendmsg only reads through iov_base.
inline iovec PieceOf(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

/// Drops `sent` bytes, and pieces that are empty, from the front of `rest`.
inline std::span<iovec> Advance(std::span<iovec> rest, size_t sent) {
  while (!rest.empty() && sent >= rest.front().iov_len) {
    sent -= rest.front().iov_len;
    rest = rest.subspan(1);
  }
  if (sent > 0) {
    rest.front().iov_base = static_cast<std::byte*>(rest.front().iov_base) + sent;
    rest.front().iov_len -= sent;
  }
  return rest;
}

}  // namespace faultline::tcp
