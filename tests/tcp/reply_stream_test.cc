// The parser and its table alone: any cutting of the stream gives the same result.
#include "engine/tcp/reply_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <utility>

#include "tests/tcp/reply_stream_rig.h"

namespace faultline::test {
namespace {

/// What a source sends for some requests: some replies come together, others alone.
class Sender {
 public:
  explicit Sender(Random& random) : random_(random) {}

  void Add(const Bytes& reply) {
    if (heads_.empty()) together_ = 1 + random_() % wire::kTogetherMax;
    heads_.push_back({reply.begin(), reply.begin() + sizeof(wire::PageReply)});
    bodies_.push_back({reply.begin() + sizeof(wire::PageReply), reply.end()});
    if (heads_.size() == together_) Flush();
  }
  Bytes Take() {
    Flush();
    return std::exchange(stream_, {});
  }

 private:
  void Flush() {
    for (size_t i = 0; i < heads_.size(); ++i) {
      const Bytes head = Behind(heads_[i], static_cast<uint16_t>(heads_.size() - 1 - i));
      stream_.insert(stream_.end(), head.begin(), head.end());
    }
    for (const Bytes& body : bodies_) stream_.insert(stream_.end(), body.begin(), body.end());
    heads_.clear();
    bodies_.clear();
  }

  Random& random_;
  size_t together_ = 0;
  std::vector<Bytes> heads_;
  std::vector<Bytes> bodies_;
  Bytes stream_;
};

TEST_F(ReplyStreamTest, RequestsAreNumberedFromOneAndRepeatTheRun) {
  const wire::PageRequest first = replies_.Post({PageIndex(5), PageCount(2)});
  const wire::PageRequest second = replies_.Post({PageIndex(9), PageCount(1)});
  EXPECT_EQ(BytesOf(first), BytesOf(HonestRequest({PageIndex(5), PageCount(2)}, 1)));
  EXPECT_EQ(BytesOf(second), BytesOf(HonestRequest({PageIndex(9), PageCount(1)}, 2)));
}

TEST_F(ReplyStreamTest, AReceiveNeverReachesBeyondTheReplyAndOneHeader) {
  const PageRun run{PageIndex(2), PageCount(4)};
  replies_.Post(run);
  replies_.Post({PageIndex(100), PageCount(64)});
  ASSERT_EQ(replies_.NextReceive().size(), 1U);
  EXPECT_EQ(replies_.NextReceive()[0].iov_len, sizeof(wire::PageReply));
  const Bytes reply = Reply(run, 1, 0b1011);
  Feed(replies_, std::span(reply).first(sizeof(wire::PageReply)), [] { return 99; });
  const std::span<iovec> landing = replies_.NextReceive();
  ASSERT_EQ(landing.size(), 3U);
  EXPECT_EQ(landing[0].iov_base, ram_.Page(PageIndex(2)).data());
  EXPECT_EQ(landing[0].iov_len, 2U * 4096);
  EXPECT_EQ(landing[1].iov_base, ram_.Page(PageIndex(5)).data());
  EXPECT_EQ(landing[1].iov_len, 4096U);
  EXPECT_EQ(landing[2].iov_len, sizeof(wire::PageReply));
}

TEST_F(ReplyStreamTest, AReceiveThatEndsBeforeAnythingElseIsPostedTakesTheOnePageWithItsHeader) {
  const PageRun page{PageIndex(4), PageCount(1)};
  EXPECT_EQ(replies_.NextReceiveNow().size(), 1U) << "nothing is awaited";
  for (const uint64_t data : {1U, 0U}) {
    const uint64_t id = replies_.Post(page).id;
    const std::span<iovec> landing = replies_.NextReceiveNow();
    ASSERT_EQ(landing.size(), 2U);
    EXPECT_EQ(landing[1].iov_base, ram_.Page(PageIndex(4)).data());
    EXPECT_EQ(landing[1].iov_len, 4096U);
    const Bytes reply = Reply(page, id, data);
    std::memcpy(landing[0].iov_base, reply.data(), landing[0].iov_len);
    std::memcpy(landing[1].iov_base, reply.data() + landing[0].iov_len, data * 4096);
    replies_.OnReceived(reply.size());
    ASSERT_FALSE(replies_.broken());
    const std::vector<Arrival> arrived = ReapAll(replies_);
    ASSERT_EQ(arrived.size(), 1U);
    EXPECT_EQ(arrived[0].zero, data == 0);
  }
  EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(4)), std::byte{1}));
}

TEST_F(ReplyStreamTest, WithSeveralRepliesAwaitedOrSeveralPagesItTakesTheHeaderAlone) {
  replies_.Post({PageIndex(4), PageCount(2)});
  EXPECT_EQ(replies_.NextReceiveNow().size(), 1U);
  Feed(replies_, Reply({PageIndex(4), PageCount(2)}, 1, 0b11), [] { return 10'000; });
  ReapAll(replies_);
  replies_.Post({PageIndex(4), PageCount(1)});
  replies_.Post({PageIndex(9), PageCount(1)});
  EXPECT_EQ(replies_.NextReceiveNow().size(), 1U);
}

TEST_F(ReplyStreamTest, AByteAfterTheLastReplyAwaitedIsALie) {
  const PageRun page{PageIndex(4), PageCount(1)};
  const Bytes zero = Reply(page, replies_.Post(page).id, 0);
  const std::span<iovec> landing = replies_.NextReceiveNow();
  ASSERT_EQ(landing[0].iov_len, zero.size());
  std::memcpy(landing[0].iov_base, zero.data(), zero.size());
  replies_.OnReceived(zero.size() + 1);
  EXPECT_TRUE(replies_.broken()) << "a byte of a page that has none";
  EXPECT_TRUE(ReapAll(replies_).empty()) << "it would be mapped, with that byte";

  ReplyStream replies(ram_.landing());
  replies.Post(page);
  Feed(replies, zero, [] { return 10'000; });
  ASSERT_FALSE(replies.broken());
  Feed(replies, Bytes(1), [] { return 1; });
  EXPECT_TRUE(replies.broken()) << "a byte that nobody asked for";
}

TEST_F(ReplyStreamTest, WhatTheSourceSaysOfItsOwnShareComesWithThePageAndIsATime) {
  const PageRun run{PageIndex(0), PageCount(1)};
  for (const uint32_t said : {1'500U, UINT32_MAX}) {
    const wire::PageRequest request = replies_.Post(run);
    Bytes reply = Reply(run, request.id, 1);
    std::memcpy(reply.data() + offsetof(wire::PageReply, turned_ns), &said, sizeof said);
    Feed(replies_, reply, [] { return 1000; });
    const std::vector<Arrival> arrived = ReapAll(replies_);
    ASSERT_EQ(arrived.size(), 1U);
    EXPECT_EQ(arrived[0].turned, Nanos(said));
  }
}

TEST_F(ReplyStreamTest, APageIsReportedAsSoonAsItsOwnBytesAreIn) {
  const PageRun run{PageIndex(0), PageCount(3)};
  replies_.Post(run);
  const Bytes reply = Reply(run, 1, 0b111);
  const std::span<const std::byte> bytes(reply);
  Feed(replies_, bytes.first(sizeof(wire::PageReply) + 4096 + 4095), [] { return 1000; });
  EXPECT_EQ(ReapAll(replies_).size(), 1U);
  EXPECT_FALSE(replies_.HasArrivals());
  Feed(replies_, bytes.subspan(sizeof(wire::PageReply) + 4096 + 4095, 1), [] { return 1; });
  const std::vector<Arrival> second = ReapAll(replies_);
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].run, (PageRun{PageIndex(1), PageCount(1)}));
}

TEST_F(ReplyStreamTest, ZeroPagesAreReportedAndNothingLandsInThem) {
  const PageRun run{PageIndex(0), PageCount(4)};
  replies_.Post(run);
  Feed(replies_, Reply(run, 1, 0b0010), [] { return 4096; });
  const std::vector<Arrival> arrivals = ReapAll(replies_);
  ASSERT_EQ(arrivals.size(), 3U);
  EXPECT_TRUE(arrivals[0].zero);
  EXPECT_FALSE(arrivals[1].zero);
  EXPECT_EQ(arrivals[2].run, (PageRun{PageIndex(2), PageCount(2)}));
  EXPECT_TRUE(arrivals[2].zero);
  EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(0)), std::byte{0xA5}));
}

TEST_F(ReplyStreamTest, ARunOfSixtyFourPagesMayHaveEveryBitSet) {
  const PageRun run{PageIndex(0), PageCount(64)};
  replies_.Post(run);
  Feed(replies_, Reply(run, 1, UINT64_MAX), [] { return 1 << 20; });
  const std::vector<Arrival> arrivals = ReapAll(replies_);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].run, run);
}

TEST_F(ReplyStreamTest, AlternatingPagesFitTheVectorsOfOneReceive) {
  const PageRun run{PageIndex(0), PageCount(64)};
  replies_.Post(run);
  Feed(replies_, Reply(run, 1, 0x5555555555555555), [] { return 1 << 20; });
  EXPECT_EQ(ReapAll(replies_).size(), 64U);
  EXPECT_FALSE(replies_.broken());
}

TEST_F(ReplyStreamTest, AnyCuttingOfTheStreamGivesTheSameResult) {
  Random random(Seed());
  uint64_t id = 0;
  for (int round = 0; round < 200; ++round) {
    Sender sender(random);
    std::deque<PageRun> posted;
    std::vector<uint64_t> bits;
    for (uint64_t i = 0; i < 1 + random() % 20; ++i) {
      const uint64_t first = random() % 200;
      const PageRun run{PageIndex(first), PageCount(1 + random() % 50)};
      const uint64_t data_pages = random() & random() & ((uint64_t{1} << run.count.value()) - 1);
      replies_.Post(run);
      sender.Add(Reply(run, ++id, data_pages));
      posted.push_back(run);
      bits.push_back(data_pages);
    }
    Feed(replies_, sender.Take(), [&] { return 1 + random() % (1 + random() % 500'000); });
    ASSERT_FALSE(replies_.broken());
    // The pieces, put together, are exactly the runs posted, with the bits of their replies.
    std::deque<Arrival> arrivals;
    for (const Arrival& arrival : ReapAll(replies_)) arrivals.push_back(arrival);
    for (size_t i = 0; i < posted.size(); ++i) {
      for (PageIndex page = posted[i].first; page < posted[i].end();) {
        ASSERT_FALSE(arrivals.empty());
        ASSERT_EQ(arrivals.front().run.first, page);
        const uint64_t offset = (page - posted[i].first).value();
        ASSERT_EQ(arrivals.front().zero, ((bits[i] >> offset) & 1) == 0);
        page = arrivals.front().run.end();
        arrivals.pop_front();
      }
    }
    ASSERT_TRUE(arrivals.empty());
    ASSERT_EQ(replies_.Room(), ReplyStream::kOutstandingMax);
  }
}

/// One buffer for every run, and a file that may be full.
class OneBuffer final : public LandingArea {
 public:
  explicit OneBuffer(GuestRam& file) : file_(file) {}
  void FillUpAfter(uint64_t pages) { room_ = pages; }

  [[nodiscard]] const Geometry& geometry() const override { return file_.geometry(); }
  std::span<std::byte> MemoryOf(PageRun run) override {
    std::ranges::fill(buffer_, std::byte{0xEE});
    return std::span(buffer_).first(geometry().BytesOf(run).value());
  }
  bool Land(PageRun pages, std::span<const std::byte> bytes) override {
    if (room_ < pages.count.value()) return false;
    room_ -= pages.count.value();
    std::ranges::copy(bytes, file_.window().BytesOf(pages).begin());
    return true;
  }

 private:
  GuestRam& file_;
  uint64_t room_ = UINT64_MAX;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kRunBytesMax.value());
};

TEST_F(ReplyStreamTest, StagedBytesAreInTheFileWhenTheirPageIsReported) {
  Random random(Seed());
  OneBuffer area(ram_);
  ReplyStream replies(area);
  for (uint64_t id = 1; id <= 300; id += 2) {
    const PageRun first{PageIndex(random() % 200), PageCount(1 + random() % 50)};
    const PageRun second{PageIndex(random() % 200), PageCount(1 + random() % 50)};
    Sender sender(random);
    for (const PageRun& run : {first, second}) {
      const uint64_t id_of_run = replies.Post(run).id;
      sender.Add(Reply(run, id_of_run, random() & ((uint64_t{1} << run.count.value()) - 1)));
    }
    const Bytes stream = sender.Take();
    ram_.FillWith(std::byte{0xA5});
    PageRun of = first;  // arrivals come in the order of the runs
    std::span<const std::byte> rest = stream;
    while (!rest.empty()) {
      rest = rest.subspan(Receive(replies, rest, 1 + random() % 20'000));
      for (const Arrival& arrival : ReapAll(replies)) {
        for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page) {
          const auto value = static_cast<std::byte>((page - of.first).value() + 1);
          ASSERT_TRUE(arrival.zero || IsFilledWith(ram_.Page(page), value));
        }
        if (arrival.run.end() == of.end()) of = second;
      }
    }
    ASSERT_FALSE(replies.broken());
  }
}

TEST_F(ReplyStreamTest, APageThatCannotLandBreaksTheStreamAndStaysUnanswered) {
  OneBuffer area(ram_);
  area.FillUpAfter(2);
  ReplyStream replies(area);
  const PageRun run{PageIndex(7), PageCount(4)};
  replies.Post(run);
  Feed(replies, Reply(run, 1, 0b1111), [] { return 4096; });
  EXPECT_TRUE(replies.broken());
  const std::vector<Arrival> arrivals = ReapAll(replies);
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].run, (PageRun{PageIndex(7), PageCount(2)}));
  std::array<PageRun, ReplyStream::kOutstandingMax> unanswered;
  ASSERT_EQ(replies.CopyUnanswered(unanswered), 1U);
  EXPECT_EQ(unanswered[0], (PageRun{PageIndex(9), PageCount(2)}));
}

TEST_F(ReplyStreamTest, RandomBytesNeverLandOutsideWhatWasAskedFor) {
  Random random(Seed());
  for (int round = 0; round < 2000; ++round) {
    ReplyStream replies(ram_.landing());
    replies.Post({PageIndex(10), PageCount(2)});
    Bytes stream = Reply({PageIndex(10), PageCount(2)}, 1, 0b11);
    for (uint64_t flips = 0; flips < 1 + random() % 4; ++flips) {
      stream[random() % sizeof(wire::PageReply)] = static_cast<std::byte>(random());
    }
    Feed(replies, stream, [&] { return 1 + random() % 5000; });
  }
  EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(9)), std::byte{0xA5}));
  EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(12)), std::byte{0xA5}));
}

TEST_F(ReplyStreamTest, AReplyToTheNextRequestBeforeItIsPostedIsALie) {
  // Its slot in the table still holds the run of an earlier request, which the lie repeats.
  const PageRun run{PageIndex(3), PageCount(1)};
  for (uint64_t id = 1; id <= ReplyStream::kOutstandingMax; ++id) {
    replies_.Post(run);
    Feed(replies_, Reply(run, id, 0), [] { return 100; });
    ASSERT_EQ(ReapAll(replies_).size(), 1U);
  }
  Feed(replies_, Reply(run, ReplyStream::kOutstandingMax + 1, 0), [] { return 5000; });
  EXPECT_TRUE(replies_.broken());
}

TEST_F(ReplyStreamTest, UnansweredIsWhatWasPostedAndNotReaped) {
  replies_.Post({PageIndex(0), PageCount(4)});
  replies_.Post({PageIndex(8), PageCount(2)});
  const Bytes reply = Reply({PageIndex(0), PageCount(4)}, 1, 0b1111);
  Feed(replies_, std::span(reply).first(sizeof(wire::PageReply) + 3 * 4096), [] { return 5000; });
  Arrival one;
  ASSERT_EQ(replies_.Reap({&one, 1}), 1U);
  std::array<PageRun, ReplyStream::kOutstandingMax> unanswered;
  ASSERT_EQ(replies_.CopyUnanswered(unanswered), 2U);
  EXPECT_EQ(unanswered[0], (PageRun{PageIndex(3), PageCount(1)}));
  EXPECT_EQ(unanswered[1], (PageRun{PageIndex(8), PageCount(2)}));
}

}  // namespace
}  // namespace faultline::test
