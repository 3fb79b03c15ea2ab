// Reading and writing exactly so many bytes of a blocking socket, bounded in time.
// For preambles and the control lane; page lanes have loops of their own.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <string>

#include "engine/core/units.h"

namespace faultline::tcp {

enum class IoEnd {
  kDone,
  kClosed,  ///< the peer closed its side
  kTimeout,
  kFailed,  ///< errno is set
};

/// Fills `buffer` from `have` on, and counts `have` up: may be called again after kTimeout.
IoEnd ReadExactly(int fd, std::span<std::byte> buffer, size_t& have, Nanos deadline);

/// Sends `pieces` (gathered.h) in their order, and eats them up. kTimeout: the peer took no byte
/// for `stall_max`.
IoEnd WriteFully(int fd, std::span<iovec> pieces, Nanos stall_max);
IoEnd WriteFully(int fd, std::span<const std::byte> bytes, Nanos stall_max);

/// "it closed the connection", "no answer in time", "Connection reset by peer".
std::string Describe(IoEnd end);

}  // namespace faultline::tcp
