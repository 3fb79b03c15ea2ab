// After a move: guest RAM that was placed in small pages is mapped by huge ones.
#include "uffd/huge_collapse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kPages = 16 * 512;  ///< sixteen huge pages
const auto kNeverStop = [] { return false; };

ByteExtent Extent(uint64_t offset, uint64_t length) {
  return {ByteCount(offset), ByteCount(length)};
}

TEST(PiecesWorthCollapsing, AreThoseThatAreNearlyAllData) {
  const std::vector<ByteExtent> data = {Extent(0, 2 * kMib), Extent(2 * kMib, kMib),
                                        Extent(4 * kMib, 2 * kMib - kMib / 4)};
  EXPECT_THAT(PiecesWorthCollapsing(VmmAddr(64 * kMib), ByteCount(8 * kMib), data),
              ElementsAre(VmmAddr(64 * kMib), VmmAddr(68 * kMib)));
}

TEST(PiecesWorthCollapsing, StartWhereAHugePageCan) {
  const std::vector<ByteExtent> data = {Extent(0, 5 * kMib)};
  EXPECT_THAT(PiecesWorthCollapsing(VmmAddr(65 * kMib), ByteCount(5 * kMib), data),
              ElementsAre(VmmAddr(66 * kMib), VmmAddr(68 * kMib)));
}

TEST(PiecesWorthCollapsing, AddUpExtentsThatAreApart) {
  const std::vector<ByteExtent> data = {Extent(4096, kMib - 4096), Extent(kMib + 4096, kMib)};
  EXPECT_THAT(PiecesWorthCollapsing(VmmAddr(0), ByteCount(3 * kMib), data),
              ElementsAre(VmmAddr(0)));
}

TEST(PiecesWorthCollapsing, AreNoneInARegionThatIsTooSmall) {
  const std::vector<ByteExtent> data = {Extent(0, kMib)};
  EXPECT_THAT(PiecesWorthCollapsing(VmmAddr(64 * kMib), ByteCount(kMib), data), IsEmpty());
  EXPECT_THAT(PiecesWorthCollapsing(VmmAddr(65 * kMib), ByteCount(2 * kMib), data), IsEmpty());
}

/// ShmemPmdMapped of our own mapping at `base`, in bytes.
uint64_t MappedHuge(VmmAddr base) {
  char start[32];
  std::snprintf(start, sizeof start, "%lx-", base.value());
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  uint64_t kib = 0;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find(':') > line.find(' ')) inside = line.rfind(start, 0) == 0;
    if (inside && std::sscanf(line.c_str(), "ShmemPmdMapped: %lu", &kib) == 1) break;
  }
  return kib << 10;
}

/// A guest whose pages have all been placed, one by one, and whose userfaultfd is unregistered.
class Arrived {
 public:
  explicit Arrived(BackingKind kind)
      : guest_({{kind, kPages}}), process_(Require(TargetProcess::Open(::getpid()))) {
    for (uint64_t page = 0; page < kPages; ++page) {
      guest_.Land(PageIndex(page), ValueOf(page));
      EXPECT_EQ(guest_.placer.MapHeld({PageIndex(page), PageCount(1)}), PlaceResult::kPlaced);
    }
    Require(guest_.uffd.Unregister(base(), guest_.geometry().byte_count()));
  }
  static int ValueOf(uint64_t page) { return static_cast<int>(page % 251 + 1); }
  [[nodiscard]] VmmAddr base() const { return guest_.map().base(0); }
  [[nodiscard]] bool IsRight(uint64_t page) const {
    return *static_cast<volatile std::byte*>(guest_.At(PageIndex(page))) ==
           std::byte(ValueOf(page));
  }
  CollapseReport Collapse(const HugeCollapse::Limits& limits, const std::function<bool()>& stop) {
    const auto regions = Require(RegionsForHugePages(guest_.vm()));
    return HugeCollapse(process_, guest_.ram, regions).Run(limits, stop);
  }

 private:
  OwnGuest guest_;
  TargetProcess process_;
};

class HugeTmpfsGuest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = WhyUnavailable(BackingKind::kHugeTmpfs);
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_F(HugeTmpfsGuest, IsMappedByHugePagesAgain) {
  Arrived guest(BackingKind::kHugeTmpfs);
  ASSERT_EQ(MappedHuge(guest.base()), 0U);
  const CollapseReport report = guest.Collapse({}, kNeverStop);
  EXPECT_EQ(report.huge, ByteCount(kPages * 4096));
  EXPECT_EQ(report.left, ByteCount(0));
  EXPECT_EQ(MappedHuge(guest.base()), kPages * 4096);
  for (uint64_t page = 0; page < kPages; ++page) ASSERT_TRUE(guest.IsRight(page)) << page;
}

TEST_F(HugeTmpfsGuest, ReadsTheRightBytesMeanwhile) {
  Arrived guest(BackingKind::kHugeTmpfs);
  std::atomic<bool> done{false};
  std::atomic<uint64_t> wrong{0};
  Nanos longest{};
  std::thread vcpu([&] {
    std::mt19937 random(1);
    while (!done) {
      const auto start = std::chrono::steady_clock::now();
      if (!guest.IsRight(random() % kPages)) ++wrong;
      longest = std::max<Nanos>(longest, std::chrono::steady_clock::now() - start);
    }
  });
  const CollapseReport report = guest.Collapse({}, kNeverStop);
  done = true;
  vcpu.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(report.huge, ByteCount(kPages * 4096));
  std::printf("longest access %ld us, longest piece %ld us\n", longest.count() / 1000,
              report.longest.count() / 1000);
}

TEST_F(HugeTmpfsGuest, IsLeftAsItIsWhenTimeIsUpOrSomebodySaysStop) {
  Arrived guest(BackingKind::kHugeTmpfs);
  EXPECT_EQ(guest.Collapse({}, [] { return true; }).huge, ByteCount(0));
  const CollapseReport first = guest.Collapse(
      {.total_max = Nanos(1), .pause_min = std::chrono::milliseconds(1)}, kNeverStop);
  EXPECT_LE(first.huge, kHugePageBytes);
  EXPECT_GE(first.left, ByteCount((kPages - 512) * 4096));
}

TEST(SmallPagesGuest, IsLeftAloneWhereTheOperatorAllowsNoHugePages) {
  std::string enabled;
  std::ifstream setting("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::getline(setting, enabled);
  if (enabled.find("[never]") == std::string::npos) GTEST_SKIP() << "shmem_enabled is " << enabled;
  Arrived guest(BackingKind::kTmpfs);
  EXPECT_EQ(guest.Collapse({}, kNeverStop).huge, ByteCount(0));
  EXPECT_EQ(MappedHuge(guest.base()), 0U);
}

}  // namespace
}  // namespace faultline::testing
