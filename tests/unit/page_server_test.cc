#include "engine/core/page_server.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "engine/core/zero_check.h"

namespace faultline {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr uint64_t kPages = 130;

class PageServerTest : public testing::Test, private PageReader {
 protected:
  PageServerTest() { presence_.MarkPresent({PageIndex(0), PageCount(100)}); }

  bool Read(PageRun run, std::span<std::byte> out) override {
    reads_.push_back(run);
    std::memset(out.data(), file_byte_, out.size());
    return file_is_readable_;
  }

  [[nodiscard]] bool MapsMany(PageIndex) const override { return maps_many_; }

  void Fill(uint64_t page, int byte) {
    std::memset(memory_.data() + page * kPageBytes, byte, kPageBytes);
  }
  const ReplyPlan* Ask(uint64_t first, uint32_t count) {
    return Ask({static_cast<uint32_t>(wire::PageMessage::kRequest), count, first, 1});
  }
  const ReplyPlan* Ask(const wire::PageRequest& request) {
    return server_.Plan(request, plan_) ? &plan_ : nullptr;
  }

  const Geometry geometry_ =
      Geometry::Create({{"ram0", ByteCount(120 * kPageBytes), PageSize(kPageBytes)},
                        {"ram1", ByteCount(10 * kPageBytes), PageSize(kPageBytes)}})
          .value();
  alignas(64) std::array<std::byte, kPages * kPageBytes> memory_{};
  const RamWindow window_{
      geometry_,
      {HostAddr(reinterpret_cast<uint64_t>(memory_.data())),
       HostAddr(reinterpret_cast<uint64_t>(memory_.data() + 120 * kPageBytes))}};
  PresenceMap presence_{geometry_.page_count()};
  std::vector<PageRun> reads_;
  int file_byte_ = 0;
  bool file_is_readable_ = true;
  bool maps_many_ = false;
  PageServer server_{window_, presence_, *this};
  ReplyPlan plan_;
};

TEST_F(PageServerTest, DescribesDataAndZeroPages) {
  Fill(10, 1);
  Fill(11, 2);
  Fill(13, 3);
  const ReplyPlan* plan = Ask(10, 4);
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->header.kind, static_cast<uint32_t>(wire::PageMessage::kReply));
  EXPECT_EQ(plan->header.first, 10u);
  EXPECT_EQ(plan->header.count, 4u);
  EXPECT_EQ(plan->header.id, 1u);
  EXPECT_EQ(plan->header.data_pages, 0b1011u);
  EXPECT_EQ(plan->data_bytes, ByteCount(3 * kPageBytes));
  ASSERT_EQ(plan->segment_count, 2u) << "neighbours are one segment";
  EXPECT_EQ(plan->segments[0].data(), memory_.data() + 10 * kPageBytes) << "nothing is copied";
  EXPECT_EQ(plan->segments[0].size(), 2 * kPageBytes);
  EXPECT_EQ(plan->segments[1].data(), memory_.data() + 13 * kPageBytes);
}

TEST_F(PageServerTest, OneByteMakesAPageData) {
  memory_[21 * kPageBytes - 1] = std::byte{1};
  EXPECT_EQ(Ask(20, 2)->header.data_pages, 1u);
}

TEST_F(PageServerTest, APageByItselfIsReadAndNotMapped) {
  Fill(20, 7);  // what the mapping has is not looked at
  file_byte_ = 9;
  const ReplyPlan* plan = Ask(20, 1);
  ASSERT_EQ(plan->segment_count, 1u);
  EXPECT_EQ(plan->segments[0].size(), kPageBytes);
  EXPECT_EQ(plan->segments[0].front(), std::byte{9});
  EXPECT_EQ(server_.PlaceOf(*plan, 0), std::nullopt);
  file_byte_ = 0;
  EXPECT_EQ(Ask(20, 1)->header.data_pages, 0u);
}

TEST_F(PageServerTest, WhereOneFaultMapsManyAPageByItselfIsMappedOnceHolesAreKnownForGood) {
  Fill(20, 7);
  Fill(40, 7);  // a hole, in the end: not looked at through the mapping
  maps_many_ = true;
  EXPECT_EQ(Ask(20, 1)->header.data_pages, 0u) << "read: nothing is final yet";
  presence_.Finish(std::array{PageRun{PageIndex(0), PageCount(40)}});
  const ReplyPlan* plan = Ask(20, 1);
  ASSERT_EQ(plan->segment_count, 1u);
  EXPECT_EQ(plan->segments[0].data(), memory_.data() + 20 * kPageBytes);
  EXPECT_EQ(Ask(40, 1)->header.data_pages, 0u);
  maps_many_ = false;
  EXPECT_EQ(Ask(20, 1)->header.data_pages, 0u);
}

TEST_F(PageServerTest, AFullRunOfZeroesHasNoBytes) {
  const ReplyPlan* plan = Ask(0, 64);
  EXPECT_EQ(plan->header.data_pages, 0u);
  EXPECT_EQ(plan->segment_count, 0u);
}

TEST_F(PageServerTest, AllSixtyFourPagesFit) {
  for (uint64_t page = 0; page < 64; ++page) Fill(page, 7);
  EXPECT_EQ(Ask(0, 64)->header.data_pages, std::numeric_limits<uint64_t>::max());
}

TEST_F(PageServerTest, WhatMayBeAHoleIsReadFromTheFileAndNeverThroughTheMapping) {
  Fill(105, 9);  // what a load through the mapping would see
  EXPECT_EQ(Ask(98, 10)->header.data_pages, 0u);
  ASSERT_EQ(reads_.size(), 8u);
  EXPECT_EQ(reads_.front().first, PageIndex(100));
}

TEST_F(PageServerTest, AnUnknownPageThatTheFileHasIsSent) {
  file_byte_ = 5;
  const ReplyPlan* plan = Ask(110, 2);
  EXPECT_EQ(plan->header.data_pages, 0b11u);
  EXPECT_EQ(plan->segments[0][0], std::byte{5});
}

TEST_F(PageServerTest, AFileThatCannotBeReadEndsTheLane) {
  file_is_readable_ = false;
  EXPECT_EQ(Ask(110, 1), nullptr);
}

TEST_F(PageServerTest, RefusesWhatIsNotARequest) {
  constexpr auto kKind = static_cast<uint32_t>(wire::PageMessage::kRequest);
  EXPECT_EQ(Ask({0, 1, 0, 1}), nullptr);
  EXPECT_EQ(Ask({static_cast<uint32_t>(wire::PageMessage::kReply), 1, 0, 1}), nullptr);
  EXPECT_EQ(Ask({kKind, 1, 0, 0}), nullptr) << "ids start at 1";
  EXPECT_EQ(Ask({kKind, 0, 0, 1}), nullptr);
  EXPECT_EQ(Ask({kKind, 65, 0, 1}), nullptr);
  EXPECT_EQ(Ask({kKind, 2, 119, 1}), nullptr) << "across two regions";
  EXPECT_EQ(Ask({kKind, 1, kPages, 1}), nullptr);
  EXPECT_EQ(Ask({kKind, 2, kPages - 1, 1}), nullptr);
  EXPECT_EQ(Ask({kKind, 1, std::numeric_limits<uint64_t>::max(), 1}), nullptr);
  EXPECT_EQ(Ask({kKind, ~uint32_t{0}, 1, 1}), nullptr);
  EXPECT_EQ(server_.pages_served(), 0u);
}

TEST(IsAllZero, SeesEveryByte) {
  alignas(64) std::array<std::byte, 256> bytes{};
  EXPECT_TRUE(IsAllZero(bytes));
  for (std::byte& byte : bytes) {
    byte = std::byte{0x80};
    ASSERT_FALSE(IsAllZero(bytes));
    byte = std::byte{0};
  }
  EXPECT_TRUE(IsAllZero({}));
}

TEST(IsAllZero, TakesAnyLengthAndAlignment) {
  std::array<std::byte, 200> bytes{};
  for (const size_t first : {0U, 1U, 7U, 63U}) {
    for (const size_t count : {1U, 63U, 64U, 65U, 129U}) {
      const auto part = std::span(bytes).subspan(first, count);
      EXPECT_TRUE(IsAllZero(part));
      part.back() = std::byte{1};
      EXPECT_FALSE(IsAllZero(part)) << first << " + " << count;
      part.back() = std::byte{0};
    }
  }
}

}  // namespace
}  // namespace faultline
