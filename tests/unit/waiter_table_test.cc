#include "engine/core/waiter_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

namespace faultline {
namespace {

class WaiterTableTest : public testing::Test {
 protected:
  std::unique_ptr<WaiterTable> table_ = std::make_unique<WaiterTable>();
};

TEST_F(WaiterTableTest, GivesTheTimesBackOnce) {
  EXPECT_TRUE(table_->Add(PageIndex(7), Nanos(100)));
  table_->NoteRequested(PageIndex(7), Nanos(200));
  const auto times = table_->Remove(PageIndex(7));
  ASSERT_TRUE(times.has_value());
  EXPECT_EQ(times->read, Nanos(100));
  EXPECT_EQ(times->requested, Nanos(200));
  EXPECT_FALSE(table_->Remove(PageIndex(7)).has_value());
}

TEST_F(WaiterTableTest, TheFirstFaultOfAPageKeepsItsTimes) {
  table_->Add(PageIndex(7), Nanos(100));
  EXPECT_TRUE(table_->Add(PageIndex(7), Nanos(300)));
  EXPECT_EQ(table_->size(), 1u);
  EXPECT_EQ(table_->Remove(PageIndex(7))->read, Nanos(100));
}

TEST_F(WaiterTableTest, ASlotForgetsItsFormerPage) {
  table_->Add(PageIndex(7), Nanos(100));
  table_->NoteRequested(PageIndex(7), Nanos(200));
  table_->Remove(PageIndex(7));
  table_->Add(PageIndex(7), Nanos(300));
  EXPECT_EQ(table_->Remove(PageIndex(7))->requested, Nanos(0));
}

TEST_F(WaiterTableTest, FillsToTheLastSlotAndFindsEveryPageAgain) {
  for (uint64_t i = 0; i < WaiterTable::kSlots; ++i) {
    ASSERT_TRUE(table_->Add(PageIndex(i * 511), Nanos(1)));
  }
  EXPECT_FALSE(table_->Add(PageIndex(1), Nanos(1)));
  std::set<uint64_t> seen;
  table_->ForEach([&](PageIndex page) { seen.insert(page.value()); });
  EXPECT_EQ(seen.size(), WaiterTable::kSlots);
  for (uint64_t i = 0; i < WaiterTable::kSlots; ++i) {
    ASSERT_TRUE(table_->Remove(PageIndex(i * 511)).has_value());
  }
  EXPECT_TRUE(table_->Add(PageIndex(1), Nanos(1)));
}

TEST_F(WaiterTableTest, SaysOnceThatSomebodyIsUnasked) {
  EXPECT_FALSE(table_->TakeUnasked());
  table_->NoteUnasked();
  EXPECT_TRUE(table_->TakeUnasked());
  EXPECT_FALSE(table_->TakeUnasked());
}

}  // namespace
}  // namespace faultline
