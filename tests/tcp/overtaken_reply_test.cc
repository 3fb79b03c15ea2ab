// Faults overtake pages of runs that are on their way: what then comes of them lands nowhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/core/ledger.h"
#include "engine/core/overtakable_landing.h"
#include "tests/tcp/reply_stream_rig.h"

namespace faultline::test {
namespace {

constexpr std::byte kBefore{0xA5};

class OvertakenReply : public ReplyStreamTest {
 protected:
  /// As a pusher does it.
  void Ask(PageRun run) {
    ASSERT_EQ(ledger_.ClaimPrefix(run, Ledger::Claim::kOvertakable), run);
    overtakable_.Post(run);
  }
  bool Overtake(PageIndex page) { return ledger_.OnFault(page, true).overtook; }
  /// Page i of `run` holds i + 1, unless it is overtaken: then it is as it was.
  void ExpectLanded(const Arrival& arrival, PageRun run) {
    for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page) {
      const auto value = static_cast<std::byte>((page - run.first).value() + 1);
      const bool lands = !arrival.overtaken && !arrival.zero;
      EXPECT_TRUE(IsFilledWith(ram_.Page(page), lands ? value : kBefore)) << page.value();
    }
  }

  std::vector<Ledger::Cell> cells_ =
      std::vector<Ledger::Cell>(SmallGeometry().page_count().value());
  Ledger ledger_{cells_};
  OvertakableLanding area_{std::make_unique<AliasLanding>(ram_.window()), ledger_};
  ReplyStream overtakable_{area_};
};

TEST_F(OvertakenReply, ItsPagesLandNowhereAndTheirNeighboursWhereTheyBelong) {
  const PageRun run{PageIndex(4), PageCount(6)};
  Ask(run);
  ASSERT_TRUE(Overtake(PageIndex(5)));
  ASSERT_TRUE(Overtake(PageIndex(8)));
  Feed(overtakable_, Reply(run, 1, 0b101111), [] { return 1 << 20; });
  const std::vector<Arrival> arrivals = ReapAll(overtakable_);
  ASSERT_EQ(arrivals.size(), 5u);
  for (const Arrival& arrival : arrivals) ExpectLanded(arrival, run);
  EXPECT_TRUE(arrivals[1].overtaken);
  EXPECT_EQ(arrivals[1].run, (PageRun{PageIndex(5), PageCount(1)}));
  EXPECT_TRUE(arrivals[3].overtaken && arrivals[3].zero) << "the source said zero of page 8";
}

TEST_F(OvertakenReply, OnceMemoryIsOfferedNobodyOvertakes) {
  const PageRun run{PageIndex(4), PageCount(6)};
  Ask(run);
  const Bytes reply = Reply(run, 1, 0b111111);
  Feed(overtakable_, std::span(reply).first(sizeof(wire::PageReply)), [] { return 99; });
  EXPECT_FALSE(Overtake(PageIndex(9)));
}

TEST_F(OvertakenReply, ARunThatHasOnlyBeenAskedForIsOvertakenBehindOneThatLands) {
  const PageRun first{PageIndex(4), PageCount(6)};
  const PageRun second{PageIndex(20), PageCount(3)};
  Ask(first);
  Ask(second);
  const Bytes reply = Reply(first, 1, 0b111111);
  Feed(overtakable_, std::span(reply).first(5000), [] { return 99; });
  EXPECT_TRUE(Overtake(PageIndex(21)));
}

TEST_F(OvertakenReply, APageByItselfToo) {
  const PageRun run{PageIndex(4), PageCount(1)};
  Ask(run);
  ASSERT_TRUE(Overtake(PageIndex(4)));
  const std::span<iovec> now = overtakable_.NextReceiveNow();
  ASSERT_EQ(now.size(), 2u);
  EXPECT_NE(now[1].iov_base, ram_.Page(PageIndex(4)).data());
  Feed(overtakable_, Reply(run, 1, 1), [] { return 1 << 20; });
  EXPECT_TRUE(ReapAll(overtakable_).at(0).overtaken);
  EXPECT_TRUE(IsFilledWith(ram_.Page(PageIndex(4)), kBefore));
}

TEST_F(OvertakenReply, ALaneThatEndsGivesUpWhatItHadBegun) {
  const PageRun run{PageIndex(4), PageCount(6)};
  Ask(run);
  ASSERT_TRUE(Overtake(PageIndex(6)));
  const Bytes reply = Reply(run, 1, 0b111111);
  Feed(overtakable_, std::span(reply).first(sizeof(wire::PageReply) + 4096),
       [] { return 1 << 20; });
  ASSERT_EQ(ReapAll(overtakable_).size(), 1u);
  overtakable_.Abandon();
  EXPECT_EQ(ledger_.BeginLanding(run), 0b000101u) << "the reported page, and the overtaken one";
}

TEST_F(OvertakenReply, OfALongRunAllTheSame) {
  const PageRun run{PageIndex(0), PageCount(64)};
  Ask(run);
  for (PageIndex page = run.first; page < run.end(); ++page) ASSERT_TRUE(Overtake(page));
  const Bytes reply = Reply(run, 1, ~uint64_t{0});
  const auto whole = [] { return 1 << 20; };
  Feed(overtakable_, std::span(reply).first(sizeof(wire::PageReply)), whole);
  EXPECT_EQ(overtakable_.NextReceive().size(), 65u) << "each page, and the next header";
  Feed(overtakable_, std::span(reply).subspan(sizeof(wire::PageReply), 2048), whole);
  ASSERT_EQ(overtakable_.NextReceive().size(), 65u);
  EXPECT_EQ(overtakable_.NextReceive()[0].iov_len, 2048u);
  Feed(overtakable_, std::span(reply).subspan(sizeof(wire::PageReply) + 2048), whole);
  const std::vector<Arrival> arrivals = ReapAll(overtakable_);
  ASSERT_EQ(arrivals.size(), 1u);
  EXPECT_EQ(arrivals[0].run, run);
  ExpectLanded(arrivals[0], run);
}

/// However the stream is cut, whatever comes together, and whenever faults come.
TEST_F(OvertakenReply, AnyCuttingAndAnyFaultsGiveEachPageToOne) {
  Random random(Seed());
  for (int round = 0; round < 300; ++round) {
    ram_.FillWith(kBefore);
    for (Ledger::Cell& cell : cells_) cell = 0;
    ReplyStream replies{area_};
    std::vector<PageRun> runs;
    Bytes stream;
    const uint64_t together = 1 + random() % 4;
    for (uint64_t i = 0; i < together; ++i) {
      runs.push_back({PageIndex(64 * i), PageCount(1 + random() % 64)});
      ASSERT_EQ(ledger_.ClaimPrefix(runs[i], Ledger::Claim::kOvertakable), runs[i]);
      replies.Post(runs[i]);
    }
    Bytes bodies;
    for (uint64_t i = 0; i < together; ++i) {
      const uint64_t count = runs[i].count.value();
      const uint64_t data = random() & (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1);
      const Bytes reply =
          Behind(Reply(runs[i], i + 1, data), static_cast<uint16_t>(together - 1 - i));
      stream.insert(stream.end(), reply.begin(), reply.begin() + sizeof(wire::PageReply));
      bodies.insert(bodies.end(), reply.begin() + sizeof(wire::PageReply), reply.end());
    }
    stream.insert(stream.end(), bodies.begin(), bodies.end());

    std::vector<bool> overtaken(cells_.size());
    std::vector<Arrival> arrivals;
    std::span<const std::byte> left = stream;
    while (!left.empty()) {
      for (uint64_t faults = random() % 4; faults > 0; --faults) {
        const PageIndex page(random() % (64 * together));
        if (Overtake(page)) overtaken[page.value()] = true;
      }
      left = left.subspan(Receive(replies, left, 1 + random() % 60'000));
      ASSERT_FALSE(replies.broken());
      for (const Arrival& arrival : ReapAll(replies)) arrivals.push_back(arrival);
    }
    uint64_t reported = 0;
    for (const Arrival& arrival : arrivals) {
      ExpectLanded(arrival, runs[arrival.run.first.value() / 64]);
      for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page, ++reported) {
        EXPECT_EQ(arrival.overtaken, overtaken[page.value()]) << page.value();
      }
    }
    uint64_t asked = 0;
    for (const PageRun& run : runs) asked += run.count.value();
    ASSERT_EQ(reported, asked);
    ASSERT_FALSE(HasFailure());
  }
}

}  // namespace
}  // namespace faultline::test
