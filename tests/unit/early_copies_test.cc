#include "engine/core/early_copies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace faultline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kPageBytes = 4096;
constexpr uint64_t kPages = 400;
constexpr uint64_t kPresent = 350;
constexpr uint64_t kFirstRegion = 300;

PageRun Pages(uint64_t first, uint64_t count) { return {PageIndex(first), PageCount(count)}; }

class EarlyCopiesTest : public testing::Test {
 protected:
  EarlyCopiesTest() {
    presence_.MarkPresent(Pages(0, kFirstRegion));
    presence_.MarkPresent(Pages(kFirstRegion, kPresent - kFirstRegion));
    for (uint64_t page = 0; page < kPages; ++page) Fill(page, 1);
  }

  void Fill(uint64_t page, int byte) {
    std::memset(memory_.data() + page * kPageBytes, byte, kPageBytes);
  }
  void Add(std::vector<PageRun> runs) { copies_.Add(runs); }
  std::vector<PageRun> Copies() {
    std::vector<PageRun> runs;
    EXPECT_TRUE(copies_.VisitCopies([&](PageRun run, std::span<const std::byte> bytes) -> Status {
      EXPECT_EQ(bytes.size(), run.count.value() * kPageBytes);
      runs.push_back(run);
      return {};
    }));
    return runs;
  }
  std::vector<PageRun> Unchanged() {
    std::vector<PageRun> runs;
    EXPECT_TRUE(copies_.VisitUnchanged([&](const std::vector<PageRun>& batch) -> Status {
      runs.insert(runs.end(), batch.begin(), batch.end());
      return {};
    }));
    return runs;
  }

  const Geometry geometry_ =
      Geometry::Create(
          {{"ram0", ByteCount(kFirstRegion * kPageBytes), PageSize(kPageBytes)},
           {"ram1", ByteCount((kPages - kFirstRegion) * kPageBytes), PageSize(kPageBytes)}})
          .value();
  std::vector<std::byte> memory_{kPages * kPageBytes};
  const RamWindow window_{
      geometry_,
      {HostAddr(reinterpret_cast<uint64_t>(memory_.data())),
       HostAddr(reinterpret_cast<uint64_t>(memory_.data() + kFirstRegion * kPageBytes))}};
  PresenceMap presence_{geometry_.page_count()};
  std::vector<std::byte> room_{kPages * kPageBytes};
  EarlyCopies copies_{window_, presence_, room_};
};

TEST_F(EarlyCopiesTest, WhatIsSentIsTheCopyAndNotThePage) {
  Add({Pages(10, 2)});
  Fill(10, 9);
  const Status sent =
      copies_.VisitCopies([](PageRun run, std::span<const std::byte> bytes) -> Status {
        EXPECT_EQ(run, Pages(10, 2));
        EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(),
                                [](std::byte byte) { return byte == std::byte{1}; }));
        return {};
      });
  EXPECT_TRUE(sent.has_value());
}

TEST_F(EarlyCopiesTest, OnlyPagesThatEqualTheirCopiesAreVouchedFor) {
  Add({Pages(10, 4)});
  memory_[12 * kPageBytes - 1] = std::byte{2};  // the last byte of page 11
  EXPECT_THAT(Unchanged(), ElementsAre(Pages(10, 1), Pages(12, 2)));
}

TEST_F(EarlyCopiesTest, WhatHasChangedIsNamedOnceAndForgotten) {
  Add({Pages(10, 4)});
  Fill(10, 2);
  Fill(11, 2);
  EXPECT_THAT(copies_.ForgetChanged(), ElementsAre(Pages(10, 2)));
  EXPECT_THAT(copies_.ForgetChanged(), IsEmpty());
  EXPECT_THAT(Copies(), ElementsAre(Pages(12, 2)));
  Fill(11, 1);  // back again, but nobody has sent it
  EXPECT_THAT(Unchanged(), ElementsAre(Pages(12, 2)));
}

TEST_F(EarlyCopiesTest, ZeroesAndPagesWithoutMemoryAreLeftOut) {
  Fill(11, 0);
  Add({Pages(10, 3), Pages(kPresent - 1, 2)});
  EXPECT_THAT(Copies(), ElementsAre(Pages(10, 1), Pages(12, 1), Pages(kPresent - 1, 1)));
}

TEST_F(EarlyCopiesTest, RunsStayWithinARegionAndAFrame) {
  Add({Pages(kFirstRegion - 40, 40), Pages(kFirstRegion, 2)});
  EXPECT_THAT(Copies(), ElementsAre(Pages(kFirstRegion - 40, 32), Pages(kFirstRegion - 8, 8),
                                    Pages(kFirstRegion, 2)));
  EXPECT_THAT(Unchanged(), ElementsAre(Pages(kFirstRegion - 40, 40), Pages(kFirstRegion, 2)));
}

TEST_F(EarlyCopiesTest, TheVisitorsErrorEndsTheVisit) {
  Add({Pages(0, kFirstRegion)});
  int calls = 0;
  const auto refuse = [&](const std::vector<PageRun>&) -> Status {
    ++calls;
    return Fail(ErrorKind::kRefused, "no more");
  };
  EXPECT_FALSE(copies_.VisitUnchanged(refuse).has_value());
  EXPECT_EQ(calls, 1);
}

TEST(EarlyCopies, PagesOfOtherSizesAreLeftOutAndTooManyToo) {
  const Geometry geometry =
      Geometry::Create({{"huge0", ByteCount(1 << 21), PageSize(1 << 21)},
                        {"ram0", ByteCount(100 * kPageBytes), PageSize(kPageBytes)}})
          .value();
  std::vector<std::byte> memory(geometry.byte_count().value(), std::byte{1});
  const auto base = reinterpret_cast<uint64_t>(memory.data());
  const RamWindow window(geometry, {HostAddr(base), HostAddr(base + (1 << 21))});
  PresenceMap presence(geometry.page_count());
  for (size_t i = 0; i < 2; ++i) presence.MarkPresent(geometry.pages_of(i));
  std::vector<std::byte> room(50 * kPageBytes);
  EarlyCopies copies(window, presence, room);
  const std::vector<PageRun> all{geometry.pages_of(0), geometry.pages_of(1)};
  copies.Add(all);
  ByteCount copied;
  const Status visited =
      copies.VisitCopies([&](PageRun run, std::span<const std::byte> bytes) -> Status {
        EXPECT_GE(run.first, geometry.pages_of(1).first);
        copied += ByteCount(bytes.size());
        return {};
      });
  EXPECT_TRUE(visited.has_value());
  EXPECT_EQ(copied, ByteCount(room.size()));
}

}  // namespace
}  // namespace faultline
