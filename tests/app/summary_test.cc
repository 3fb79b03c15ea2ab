#include "engine/app/summary.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace faultline {
namespace {

SummaryJson Destination() {
  FaultMetrics faults;
  faults.faults.count.Add(3);
  faults.faults.from_urgent.Add(2);
  faults.faults.zero.Add(1);
  faults.total.Record(std::chrono::microseconds(40));
  return DestinationPart({.guest_bytes = ByteCount(1 << 20), .retries = 1}, faults);
}

SummaryJson Source() {
  return SourcePart({.result = "completed",
                     .blackout = std::chrono::milliseconds(7),
                     .total = std::chrono::seconds(1),
                     .retries = 2});
}

TEST(SummaryTest, HasEveryFieldOfTheContract) {
  const SummaryJson summary = MergeSummary(Source(), Destination());
  for (const char* key : {"result", "mode", "transport", "guest_bytes", "data_bytes", "wire_bytes",
                          "blackout_ms", "total_ms", "faults", "fault_latency_us", "pushed_pages",
                          "zero_pages", "retries", "cpu_s"}) {
    EXPECT_TRUE(summary.contains(key)) << key;
  }
  for (const char* key :
       {"count", "from_urgent", "overtook", "joined_bulk", "zero", "already_held"}) {
    EXPECT_TRUE(summary["faults"].contains(key)) << key;
  }
  for (const char* key : {"p50", "p90", "p99", "p999", "max", "stages"}) {
    EXPECT_TRUE(summary["fault_latency_us"].contains(key)) << key;
  }
}

TEST(SummaryTest, BothSidesNumbersMeetInOneObject) {
  const SummaryJson summary = MergeSummary(Source(), Destination());
  EXPECT_EQ(summary["result"], "completed");
  EXPECT_DOUBLE_EQ(summary["blackout_ms"], 7);
  EXPECT_EQ(summary["retries"], 3);
  EXPECT_TRUE(summary["cpu_s"].contains("source"));
  EXPECT_TRUE(summary["cpu_s"].contains("destination"));
}

TEST(SummaryTest, APeerThatNeverSentItsPartLeavesZeroes) {
  const SummaryJson summary = MergeSummary(Source(), SummaryJson::object());
  EXPECT_EQ(summary["cpu_s"]["destination"], 0);
  EXPECT_FALSE(DescribeSummary(summary).empty());
}

TEST(SummaryTest, AHostilePartBecomesAnEmptyObject) {
  for (const std::string text : {"", "[1]", "{", "\xff\xfe", "null"}) {
    EXPECT_TRUE(ParseSummary(std::as_bytes(std::span(text))).empty()) << text;
  }
}

TEST(SummaryTest, APartWithWrongTypesIsDescribedAllTheSame) {
  const std::string text = R"({"result": 5, "faults": [], "fault_latency_us": "x", "cpu_s": {}})";
  const SummaryJson hostile = ParseSummary(std::as_bytes(std::span(text)));
  EXPECT_FALSE(DescribeSummary(MergeSummary(hostile, hostile)).empty());
}

TEST(SummaryTest, IsWrittenWholeOrNotAtAll) {
  const std::string path = "/tmp/faultline-summary-" + std::to_string(getpid()) + ".json";
  ASSERT_TRUE(WriteSummary(path, MergeSummary(Source(), Destination())).has_value());
  std::ifstream file(path);
  EXPECT_EQ(SummaryJson::parse(file)["result"], "completed");
  std::filesystem::remove(path);
  EXPECT_FALSE(WriteSummary("/proc/no/such/place", Source()).has_value());
}

}  // namespace
}  // namespace faultline
