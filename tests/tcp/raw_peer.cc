#include "tests/tcp/raw_peer.h"

#include <poll.h>
#include <sys/socket.h>

#include "engine/tcp/deadline.h"
#include "engine/tcp/exact_io.h"

namespace faultline::test {
namespace {

constexpr Nanos kPatience = std::chrono::seconds(5);

}  // namespace

Bytes BytesOf(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes Joined(std::initializer_list<Bytes> pieces) {
  Bytes all;
  for (const Bytes& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
  return all;
}

bool SendBytes(int fd, std::span<const std::byte> bytes) {
  return tcp::WriteFully(fd, bytes, kPatience) == tcp::IoEnd::kDone;
}

Bytes ReadBytes(int fd, size_t bytes) {
  Bytes buffer(bytes);
  size_t have = 0;
  (void)tcp::ReadExactly(fd, buffer, have, tcp::MonotonicNow() + kPatience);
  buffer.resize(have);
  return buffer;
}

bool IsClosedByPeer(int fd) {
  std::byte one{};
  size_t have = 0;
  const auto end = tcp::ReadExactly(fd, std::span(&one, 1), have, tcp::MonotonicNow() + kPatience);
  return have == 0 && (end == tcp::IoEnd::kClosed || end == tcp::IoEnd::kFailed);
}

wire::PageReply HonestReply(PageRun run, uint64_t id) {
  const uint64_t count = run.count.value();
  return {static_cast<uint32_t>(wire::PageMessage::kReply),
          static_cast<uint32_t>(count),
          run.first.value(),
          id,
          count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1,
          0,
          0,
          0};
}

wire::PageRequest HonestRequest(PageRun run, uint64_t id) {
  return {static_cast<uint32_t>(wire::PageMessage::kRequest),
          static_cast<uint32_t>(run.count.value()), run.first.value(), id};
}

}  // namespace faultline::test
