#include "engine/core/source_memory.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace faultline
