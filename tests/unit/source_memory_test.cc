#include "engine/core/source_memory.h"

#include <gtest/gtest.h>

#include <array>

namespace faultline {
namespace {

TEST(PresenceMap, KnowsNothingAtFirst) {
  const PresenceMap map(PageCount(1000));
  EXPECT_FALSE(map.IsPresent(PageIndex(0)));
  EXPECT_FALSE(map.IsPresent(PageIndex(999)));
  EXPECT_EQ(map.CountPresent(), PageCount(0));
}

TEST(PresenceMap, MarksExactlyTheRun) {
  PresenceMap map(PageCount(1000));
  map.MarkPresent({PageIndex(60), PageCount(200)});
  EXPECT_FALSE(map.IsPresent(PageIndex(59)));
  EXPECT_TRUE(map.IsPresent(PageIndex(60)));
  EXPECT_TRUE(map.IsPresent(PageIndex(127)));
  EXPECT_TRUE(map.IsPresent(PageIndex(259)));
  EXPECT_FALSE(map.IsPresent(PageIndex(260)));
  EXPECT_EQ(map.CountPresent(), PageCount(200));
}

TEST(PresenceMap, MarkingTwiceCountsOnce) {
  PresenceMap map(PageCount(64));
  map.MarkPresent({PageIndex(0), PageCount(64)});
  map.MarkPresent({PageIndex(10), PageCount(1)});
  map.MarkPresent({PageIndex(10), PageCount(0)});
  EXPECT_EQ(map.CountPresent(), PageCount(64));
}

TEST(PresenceMap, WhenItIsFinalItHoldsTheDataAndNothingElse) {
  PresenceMap map(PageCount(200));
  map.MarkPresent({PageIndex(0), PageCount(200)});
  EXPECT_FALSE(map.is_final());
  map.Finish(
      std::array{PageRun{PageIndex(3), PageCount(70)}, PageRun{PageIndex(150), PageCount(1)}});
  EXPECT_TRUE(map.is_final());
  EXPECT_EQ(map.CountPresent(), PageCount(71));
  EXPECT_FALSE(map.IsPresent(PageIndex(2)));
  EXPECT_TRUE(map.IsPresent(PageIndex(3)));
  EXPECT_TRUE(map.IsPresent(PageIndex(72)));
  EXPECT_FALSE(map.IsPresent(PageIndex(73)));
  EXPECT_TRUE(map.IsPresent(PageIndex(150)));
  EXPECT_FALSE(map.IsPresent(PageIndex(199)));
}

}  // namespace
}  // namespace faultline
