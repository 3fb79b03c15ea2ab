#include "engine/core/early_landing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/fakes.h"

namespace faultline::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using enum PageState;

class EarlyLandingTest : public ::testing::Test {
 protected:
  void Land(PageRun run) {
    const std::vector<std::byte> bytes(run.count.value() * 4096, std::byte{7});
    early_.Land(run, bytes);
  }
  [[nodiscard]] PageState State(uint64_t page) const {
    return bench_.ledger.State(PageIndex(page));
  }

  Bench bench_;
  bool has_room_ = true;
  std::vector<PageRun> written_;
  EarlyLanding early_{bench_.Parts(), [this](PageRun run, std::span<const std::byte> bytes) {
                        EXPECT_EQ(bytes.size(), run.count.value() * 4096);
                        written_.push_back(run);
                        return has_room_;
                      }};
};

TEST_F(EarlyLandingTest, WhatLandsEarlyIsAbsentTouchedAndNotMapped) {
  Land(Pages(10, 4));
  EXPECT_THAT(written_, ElementsAre(Pages(10, 4)));
  EXPECT_EQ(State(10), kAbsent);
  EXPECT_TRUE(bench_.ledger.IsTouched(PageIndex(13)));
  EXPECT_THAT(bench_.placer.calls, IsEmpty());
}

TEST_F(EarlyLandingTest, WhatTheSourceVouchesForIsMapped) {
  Land(Pages(10, 4));
  early_.Keep(Pages(10, 4));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 10+4"));
  EXPECT_EQ(State(13), kMapped);
  EXPECT_EQ(bench_.landing_metrics.data_pages.value(), 4u);
}

TEST_F(EarlyLandingTest, WhatHasNotLandedIsNotKeptWhateverTheSourceSays) {
  Land(Pages(11, 2));
  early_.Keep(Pages(10, 100));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 11+2"));
  EXPECT_EQ(State(10), kAbsent);
  EXPECT_EQ(State(13), kAbsent);
}

TEST_F(EarlyLandingTest, WhatTheFileHadNoRoomForIsNotKept) {
  has_room_ = false;
  Land(Pages(10, 4));
  early_.Keep(Pages(10, 4));
  EXPECT_THAT(bench_.placer.calls, IsEmpty());
  EXPECT_EQ(State(10), kAbsent);
}

TEST_F(EarlyLandingTest, WhatSomebodyElseHasAskedForIsLeftToHim) {
  Land(Pages(10, 4));
  ASSERT_EQ(bench_.ledger.ClaimPrefix(Pages(11, 1)), Pages(11, 1));
  early_.Keep(Pages(10, 4));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 10+1", "held 12+2"));
  EXPECT_EQ(State(11), kRequested);
}

TEST_F(EarlyLandingTest, WhatIsMappedAlreadyIsNotWrittenOver) {
  ASSERT_EQ(bench_.ledger.ClaimPrefix(Pages(10, 1)), Pages(10, 1));
  Landing landing(bench_.Parts());
  landing.Complete({Pages(10, 1)});
  Land(Pages(10, 2));
  EXPECT_THAT(written_, IsEmpty());
}

TEST_F(EarlyLandingTest, WhatTheGuestHasGivenUpReadsAsZero) {
  Landing landing(bench_.Parts());
  Land(Pages(10, 1));
  landing.Remove(Pages(10, 1));
  early_.Keep(Pages(10, 1));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("empty 10+1"));
  EXPECT_EQ(State(10), kReleased);
}

TEST_F(EarlyLandingTest, WhoWaitsForAKeptPageIsWokenFirst) {
  Land(Pages(10, 4));
  bench_.waiters->Add(PageIndex(12), bench_.clock.now);
  bench_.ledger.OnFault(PageIndex(12), false);
  early_.Keep(Pages(10, 4));
  EXPECT_THAT(bench_.placer.calls, ElementsAre("held 12+1", "held 10+2", "held 13+1"));
}

}  // namespace
}  // namespace faultline::test
