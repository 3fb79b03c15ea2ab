// What the tests of the reply stream have in common: replies made by hand, and how they are fed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "engine/tcp/reply_stream.h"
#include "tests/tcp/guest_ram.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {

/// Copies up to `limit` bytes of `stream` to where the next receive says; returns how many.
inline size_t Receive(ReplyStream& replies, std::span<const std::byte> stream, size_t limit) {
  size_t copied = 0;
  for (const iovec& vector : replies.NextReceive()) {
    const size_t bytes = std::min({vector.iov_len, stream.size() - copied, limit - copied});
    std::memcpy(vector.iov_base, stream.data() + copied, bytes);
    copied += bytes;
    if (bytes < vector.iov_len) break;
  }
  replies.OnReceived(copied);
  return copied;
}

/// Feeds all of `stream` in pieces of at most `limit()` bytes; stops when broken.
template <class Limit>
void Feed(ReplyStream& replies, std::span<const std::byte> stream, Limit limit) {
  while (!stream.empty() && !replies.broken()) {
    stream = stream.subspan(Receive(replies, stream, limit()));
  }
}

inline std::vector<Arrival> ReapAll(ReplyStream& replies) {
  std::vector<Arrival> all;
  Arrival one;
  while (replies.Reap({&one, 1}) == 1) all.push_back(one);
  return all;
}

class ReplyStreamTest : public testing::Test {
 protected:
  ReplyStreamTest() { ram_.FillWith(std::byte{0xA5}); }

  /// A reply with the given data pages; page i of the run holds bytes of value i + 1.
  static Bytes Reply(PageRun run, uint64_t id, uint64_t data_pages) {
    wire::PageReply header = HonestReply(run, id);
    header.data_pages = data_pages;
    Bytes bytes = BytesOf(header);
    for (uint64_t page = 0; page < run.count.value(); ++page) {
      const size_t length = ((data_pages >> page) & 1) != 0 ? 4096 : 0;
      bytes.insert(bytes.end(), length, static_cast<std::byte>(page + 1));
    }
    return bytes;
  }

  GuestRam ram_{SmallGeometry()};
  ReplyStream replies_{ram_.landing()};
};

/// `reply` with that many headers said to follow its own.
inline Bytes Behind(Bytes reply, uint16_t headers) {
  std::memcpy(reply.data() + offsetof(wire::PageReply, headers_behind), &headers, sizeof headers);
  return reply;
}

}  // namespace faultline::test
