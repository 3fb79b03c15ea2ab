// Replies that come together: all their headers first, then the bytes of each.
#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "engine/tcp/packing.h"
#include "tests/tcp/reply_stream_rig.h"

namespace faultline::test {
namespace {

TEST_F(ReplyStreamTest, RepliesThatComeTogetherAreReceivedTogether) {
  const PageRun runs[] = {{PageIndex(2), PageCount(4)}, {PageIndex(40), PageCount(2)}};
  for (const PageRun& run : runs) replies_.Post(run);
  const Bytes first = Behind(Reply(runs[0], 1, 0), 1);
  Feed(replies_, first, [] { return 99; });
  ASSERT_EQ(replies_.NextReceive().size(), 1U) << "the header that follows, and no page";
  EXPECT_EQ(replies_.NextReceive()[0].iov_len, sizeof(wire::PageReply));
  EXPECT_FALSE(replies_.HasArrivals()) << "the other header is not in";

  ReplyStream both(ram_.landing());
  for (const PageRun& run : runs) both.Post(run);
  for (const auto& [id, behind] : {std::pair<uint64_t, uint16_t>{1, 1}, {2, 0}}) {
    const Bytes header = Behind(Reply(runs[id - 1], id, 0b11), behind);
    Feed(both, std::span(header).first(sizeof(wire::PageReply)), [] { return 99; });
  }
  const std::span<iovec> landing = both.NextReceive();
  ASSERT_EQ(landing.size(), 3U);
  EXPECT_EQ(landing[0].iov_base, ram_.Page(PageIndex(2)).data());
  EXPECT_EQ(landing[1].iov_base, ram_.Page(PageIndex(40)).data());
  EXPECT_EQ(landing[1].iov_len, 2U * 4096);
  EXPECT_EQ(landing[2].iov_len, sizeof(wire::PageReply));
}

TEST_F(ReplyStreamTest, AsManyRepliesAsMayComeTogetherLandWhereTheyBelong) {
  Bytes heads;
  Bytes bodies;
  for (uint32_t i = 0; i < wire::kTogetherMax; ++i) {
    const PageRun run{PageIndex(i * 3), PageCount(2)};
    const uint64_t id = replies_.Post(run).id;
    // Each page of its own value, the first page of every third run zero.
    const Bytes reply = Behind(Reply(run, id, i % 3 == 0 ? 0b10 : 0b11),
                               static_cast<uint16_t>(wire::kTogetherMax - 1 - i));
    heads.insert(heads.end(), reply.begin(), reply.begin() + sizeof(wire::PageReply));
    bodies.insert(bodies.end(), reply.begin() + sizeof(wire::PageReply), reply.end());
  }
  Feed(replies_, Joined({heads, bodies}), [] { return 1 << 20; });
  ASSERT_FALSE(replies_.broken());
  EXPECT_EQ(replies_.Room(), ReplyStream::kOutstandingMax - wire::kTogetherMax);
  ReapAll(replies_);
  EXPECT_EQ(replies_.Room(), ReplyStream::kOutstandingMax);
  for (uint32_t i = 0; i < wire::kTogetherMax; ++i) {
    const std::byte first = i % 3 == 0 ? std::byte{0xA5} : std::byte{1};
    EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(i * 3)), first));
    EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(i * 3 + 1)), std::byte{2}));
    EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(i * 3 + 2)), std::byte{0xA5}));
  }
}

TEST_F(ReplyStreamTest, RunsInManyPiecesAreOfferedWhole) {
  constexpr uint64_t kEveryOther = 0x5555555555555555;
  const auto run = [](uint64_t i) { return PageRun{PageIndex(i * 64), PageCount(64)}; };
  for (uint64_t i = 0; i < 3; ++i) replies_.Post(run(i));
  for (uint64_t i = 0; i < 3; ++i) {
    const Bytes reply = Behind(Reply(run(i), i + 1, kEveryOther), static_cast<uint16_t>(2 - i));
    Feed(replies_, std::span(reply).first(sizeof(wire::PageReply)), [] { return 99; });
  }
  EXPECT_EQ(replies_.NextReceive().size(), 64U) << "of two runs, and no header";
}

TEST_F(ReplyStreamTest, ARequestMayBePostedWhileAReceiveIsUnderWay) {
  CompressionPolicy policy{wire::Compression::kLz4};
  Unpacker unpacker{policy};
  ReplyStream replies(ram_.landing(), &unpacker);
  const std::span<iovec> header = replies.NextReceive();
  ASSERT_EQ(header.size(), 1U);
  const PageRun run{PageIndex(5), PageCount(1)};
  const wire::PageRequest request = replies.Post(run);
  ASSERT_NE(request.kind, static_cast<uint32_t>(wire::PageMessage::kRequest));
  const Bytes reply = Joined(
      {BytesOf(HonestReply(run, 1)), BytesOf(wire::Packing{0, 0}), Bytes(4096, std::byte{7})});
  std::memcpy(header[0].iov_base, reply.data(), header[0].iov_len);
  replies.OnReceived(header[0].iov_len);
  Feed(replies, std::span(reply).subspan(header[0].iov_len), [] { return 1000; });
  EXPECT_EQ(ReapAll(replies).size(), 1U);
  EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(5)), std::byte{7}));
}

TEST_F(ReplyStreamTest, AWrongNumberOfHeadersIsALie) {
  const PageRun run{PageIndex(2), PageCount(1)};
  const std::pair<uint16_t, uint16_t> lies[] = {
      {wire::kTogetherMax, wire::kTogetherMax - 1}, {UINT16_MAX, 0}, {1, 1}, {2, 0}, {3, 3}};
  for (const auto& [first, second] : lies) {
    ReplyStream replies(ram_.landing());
    for (int i = 0; i < 20; ++i) replies.Post(run);
    Feed(replies, Joined({Behind(Reply(run, 1, 0), first), Behind(Reply(run, 2, 0), second)}),
         [] { return 1000; });
    EXPECT_TRUE(replies.broken()) << first << ", " << second;
  }
}

TEST_F(ReplyStreamTest, MoreHeadersThanRequestsAreALie) {
  const PageRun run{PageIndex(2), PageCount(1)};
  replies_.Post(run);
  Feed(replies_, Joined({Behind(Reply(run, 1, 0), 1), Reply(run, 2, 0)}), [] { return 1000; });
  EXPECT_TRUE(replies_.broken());
}

}  // namespace
}  // namespace faultline::test
