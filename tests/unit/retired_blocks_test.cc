#include "engine/core/retired_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fakes.h"

namespace faultline::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr PageCount kBlock{32};

class RetiredBlocksTest : public testing::Test {
 protected:
  explicit RetiredBlocksTest(int islands_max = 8)
      : blocks_(bench_.geometry, bench_.ledger, bench_.placer, kBlock, islands_max) {}

  void Complete(PageRun run) {
    bench_.ledger.ClaimPrefix(run);
    for (PageIndex page = run.first; page < run.end(); ++page) {
      bench_.ledger.Apply(page, PageEvent::kLand);
    }
  }
  void CompleteAndNote(PageRun run) {
    Complete(run);
    blocks_.NoteComplete(run);
  }

  Bench bench_{uint64_t{4} * 32 + 20};
  RetiredBlocks blocks_;
};

TEST_F(RetiredBlocksTest, ABlockIsRetiredOnceByItsLastPage) {
  CompleteAndNote(Pages(33, 31));
  EXPECT_THAT(bench_.placer.calls, IsEmpty());
  CompleteAndNote(Pages(32, 1));
  blocks_.NoteComplete(Pages(40, 1));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("retire 32+32"));
}

TEST_F(RetiredBlocksTest, EveryBlockThatARunReachesIsLookedAt) {
  CompleteAndNote(Pages(0, 96));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("retire 0+32", "retire 32+32", "retire 64+32"));
}

TEST_F(RetiredBlocksTest, HolesAndPagesGivenUpAreComplete) {
  Complete(Pages(2, 30));
  bench_.ledger.Apply(PageIndex(0), PageEvent::kRemove);
  bench_.ledger.Apply(PageIndex(1), PageEvent::kFoundEmpty);
  blocks_.NoteComplete(Pages(2, 30));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("retire 0+32"));
}

TEST_F(RetiredBlocksTest, PagesThatMustBeEmptiedKeepTheirBlock) {
  bench_.ledger.MarkTouched(Pages(0, 1));
  const Ledger::Change removed = bench_.ledger.Apply(PageIndex(0), PageEvent::kRemove);
  ASSERT_TRUE(removed.must_empty);
  CompleteAndNote(Pages(1, 31));
  EXPECT_THAT(bench_.placer.calls, IsEmpty());
  bench_.ledger.NoteEmptied(PageIndex(0));
  blocks_.NoteComplete(Pages(31, 1));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("retire 0+32"));
}

TEST_F(RetiredBlocksTest, WhereNoWholeBlockFitsNothingIsDeferred) {
  CompleteAndNote(Pages(128, 20));
  CompleteAndNote(Pages(148, 1));  // a page of 2 MiB
  EXPECT_THAT(bench_.placer.calls, IsEmpty());
  EXPECT_TRUE(blocks_.Defers(PageIndex(127)));
  EXPECT_FALSE(blocks_.Defers(PageIndex(128)));
  EXPECT_FALSE(blocks_.Defers(PageIndex(148)));
}

TEST_F(RetiredBlocksTest, AFaultBringsItsSixteenPages) {
  EXPECT_EQ(blocks_.Around(PageIndex(47)), Pages(32, 16));
  EXPECT_EQ(blocks_.Around(PageIndex(48)), Pages(48, 16));
  EXPECT_TRUE(blocks_.Around(PageIndex(128)).empty());
  CompleteAndNote(Pages(32, 32));
  EXPECT_TRUE(blocks_.Around(PageIndex(47)).empty()) << "retired: the kernel maps them";
}

struct FewIslands : RetiredBlocksTest {
  FewIslands() : RetiredBlocksTest(1) {}
};

TEST_F(FewIslands, ABlockThatWouldStandAloneStaysAndItsNeighbourDoesNot) {
  CompleteAndNote(Pages(0, 32));
  EXPECT_FALSE(blocks_.Defers(PageIndex(96)));
  CompleteAndNote(Pages(96, 32));
  CompleteAndNote(Pages(32, 32));
  CompleteAndNote(Pages(64, 32));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("retire 0+32", "retire 32+32", "retire 64+32"));
  blocks_.NoteComplete(Pages(127, 1));
  EXPECT_EQ(bench_.placer.calls.back(), "retire 96+32");
}

TEST(RetiredBlocks, BlocksBeginWhereTheirRegionDoes) {
  const Geometry geometry = Geometry::Create({{"a", ByteCount(40 * 4096), PageSize(4096)},
                                              {"b", ByteCount(64 * 4096), PageSize(4096)}})
                                .value();
  std::vector<Ledger::Cell> cells(104);
  Ledger ledger(cells);
  RecordingPlacer placer;
  RetiredBlocks blocks(geometry, ledger, placer, kBlock);
  for (PageIndex page; page < PageIndex(104); ++page) ledger.Apply(page, PageEvent::kFoundEmpty);
  blocks.NoteComplete(Pages(0, 104));
  EXPECT_THAT(placer.calls, ElementsAre("retire 0+32", "retire 40+32", "retire 72+32"));
}

}  // namespace
}  // namespace faultline::test
