// A peer whose every byte the test decides.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline::test {

using Bytes = std::vector<std::byte>;

template <class T>
Bytes BytesOf(const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}
Bytes BytesOf(const std::string& text);
Bytes Joined(std::initializer_list<Bytes> pieces);

/// Sends everything; false if the connection is gone.
bool SendBytes(int fd, std::span<const std::byte> bytes);
/// Reads up to `bytes`; fewer only at the end of the stream or after five seconds of silence.
Bytes ReadBytes(int fd, size_t bytes);
/// The peer has closed, and nothing was sent before.
bool IsClosedByPeer(int fd);

/// The honest answer to the `id`-th request of `run`: every page is data.
wire::PageReply HonestReply(PageRun run, uint64_t id);
wire::PageRequest HonestRequest(PageRun run, uint64_t id);

}  // namespace faultline::test
