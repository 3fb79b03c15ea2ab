// Guest RAM of a process, opened from outside through /proc/PID/map_files.
#include "uffd/guest_ram.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr PageIndex Page(uint64_t n) { return PageIndex(n); }
constexpr PageRun Pages(uint64_t first, uint64_t count) { return {Page(first), PageCount(count)}; }

void Write(const OwnMemory& memory, PageRun run, int value) {
  std::memset(memory.At(run.first), value, memory.geometry().BytesOf(run).value());
}

GuestRam OpenForReading(const OwnMemory& memory) {
  return Require(GuestRam::Open(memory.geometry(), memory.vm(), RamAccess::kRead));
}

class GuestRamOn : public ::testing::TestWithParam<BackingKind> {
 protected:
  void SetUp() override {
    const std::string reason = WhyUnavailable(GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
    memory_.emplace(std::vector<RegionPlan>{{GetParam(), 8, 3}});
  }
  OwnMemory& memory() { return *memory_; }

 private:
  std::optional<OwnMemory> memory_;
};

INSTANTIATE_TEST_SUITE_P(Each, GuestRamOn,
                         ::testing::Values(BackingKind::kTmpfs, BackingKind::kHugetlbfs),
                         [](const auto& test) { return NameOf(test.param); });

TEST_P(GuestRamOn, ShowsTheSameBytesThroughTheAliasAlsoBehindAFileOffset) {
  Write(memory(), Pages(2, 1), 0x21);
  const GuestRam ram = OpenForReading(memory());
  EXPECT_EQ(ram.window().BytesOf(Pages(2, 1))[5], std::byte(0x21));
}

TEST_P(GuestRamOn, NamesExactlyThePagesThatHoldData) {
  Write(memory(), Pages(1, 2), 1);
  Write(memory(), Pages(6, 1), 2);
  const GuestRam ram = OpenForReading(memory());
  EXPECT_THAT(Require(ram.DataRuns()), ElementsAre(Pages(1, 2), Pages(6, 1)));
}

TEST_P(GuestRamOn, FindsDataThatTheVmmHasNotMapped) {
  const GuestRam writer =
      Require(GuestRam::Open(memory().geometry(), memory().vm(), RamAccess::kReadWrite));
  std::memset(writer.window().BytesOf(Pages(4, 1)).data(), 3, 64);
  EXPECT_THAT(Require(OpenForReading(memory()).DataRuns()), ElementsAre(Pages(4, 1)));
}

TEST_P(GuestRamOn, ReadsAndScansWithoutInflatingASparseFile) {
  Write(memory(), Pages(7, 1), 1);
  GuestRam ram = OpenForReading(memory());
  const ByteCount before = Require(ram.file(0).AllocatedBytes());
  std::vector<std::byte> all(memory().geometry().byte_count().value(), std::byte(0xFF));
  EXPECT_TRUE(ram.Read(Pages(0, 8), all));
  EXPECT_EQ(all.front(), std::byte(0));
  EXPECT_EQ(all.back(), std::byte(1));
  Require(ram.DataRuns());
  EXPECT_EQ(Require(ram.file(0).AllocatedBytes()), before);
}

TEST_P(GuestRamOn, PutsMemoryUnderTheAliasAndLeavesWhatIsThere) {
  Write(memory(), Pages(1, 1), 0x44);
  const GuestRam ram =
      Require(GuestRam::Open(memory().geometry(), memory().vm(), RamAccess::kReadWrite));
  Require(ram.PopulateWrite(Pages(0, 4)));
  EXPECT_EQ(Require(ram.file(0).AllocatedBytes()), memory().geometry().BytesOf(Pages(0, 4)));
  EXPECT_EQ(*memory().At(Page(1)), std::byte(0x44));
  EXPECT_EQ(*memory().At(Page(2)), std::byte(0));
}

TEST_P(GuestRamOn, DropsPageTablesAndNoData) {
  const GuestRam ram =
      Require(GuestRam::Open(memory().geometry(), memory().vm(), RamAccess::kReadWrite));
  std::memset(ram.window().BytesOf(Pages(0, 1)).data(), 5, 64);
  EXPECT_TRUE(ram.DropPageTables(Pages(0, 8)));
  EXPECT_EQ(ram.window().BytesOf(Pages(0, 1))[0], std::byte(5));
  EXPECT_EQ(*memory().At(Page(0)), std::byte(5));
}

TEST_P(GuestRamOn, EmptiesOnlyTheRunItIsGiven) {
  Write(memory(), Pages(0, 4), 6);
  const GuestRam ram =
      Require(GuestRam::Open(memory().geometry(), memory().vm(), RamAccess::kReadWrite));
  ram.file(0).Empty(ram.ExtentOf(Pages(1, 2)));
  EXPECT_THAT(Require(ram.DataRuns()), ElementsAre(Pages(0, 1), Pages(3, 1)));
}

TEST_P(GuestRamOn, KnowsThePageSizeOfAMapping) {
  EXPECT_EQ(Require(RamFile::PageSizeOfMapping(::getpid(), memory().vm().regions[0].base)),
            PageSizeOf(GetParam()));
}

TEST(GuestRamTest, WritesWholePages) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 3}});
  const GuestRam ram =
      Require(GuestRam::Open(memory.geometry(), memory.vm(), RamAccess::kReadWrite));
  EXPECT_TRUE(ram.Write(Pages(1, 2), std::vector<std::byte>(2 * 4096, std::byte(7))));
  EXPECT_EQ(*memory.At(Page(0)), std::byte(0));
  EXPECT_EQ(*memory.At(Page(1)), std::byte(7));
  EXPECT_EQ(memory.At(Page(3))[-1], std::byte(7));
  EXPECT_EQ(*memory.At(Page(3)), std::byte(0));
}

TEST(GuestRamTest, HasRoomOnATmpfsWithoutALimitOrWithALargeOne) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 0}});
  const std::vector<PageRun> all = {memory.All()};
  Require(OpenForReading(memory).CheckRoom(all));
}

TEST(GuestRamTest, KeepsSeveralBackendsApart) {
  OwnMemory memory({{BackingKind::kTmpfs, 4, 0}, {BackingKind::kTmpfs, 4, 5}});
  Write(memory, Pages(3, 1), 8);  // the last page of the first region
  Write(memory, Pages(4, 1), 9);  // the first of the second
  GuestRam ram = OpenForReading(memory);
  EXPECT_THAT(Require(ram.DataRuns()), ElementsAre(Pages(3, 1), Pages(4, 1)));
  std::vector<std::byte> page(4096);
  EXPECT_TRUE(ram.Read(Pages(4, 1), page));
  EXPECT_EQ(page[0], std::byte(9));
}

TEST(GuestRamTest, MarksDataInAPresenceMap) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 0}});
  Write(memory, Pages(2, 3), 1);
  PresenceMap presence(memory.geometry().page_count());
  MarkPresent(Require(OpenForReading(memory).DataRuns()), presence);
  EXPECT_EQ(presence.CountPresent(), PageCount(3));
  EXPECT_TRUE(presence.IsPresent(Page(4)));
  EXPECT_FALSE(presence.IsPresent(Page(5)));
}

TEST(GuestRamTest, OneFaultMapsManyPagesWhereTheFileGivesHugeOnes) {
  OwnMemory small({{BackingKind::kTmpfs, 8, 0}});
  EXPECT_FALSE(OpenForReading(small).MapsMany(Page(0)));
  const std::string reason = WhyUnavailable(BackingKind::kHugeTmpfs);
  if (!reason.empty()) GTEST_SKIP() << reason;
  OwnMemory both({{BackingKind::kTmpfs, 512, 0}, {BackingKind::kHugeTmpfs, 512, 0}});
  EXPECT_FALSE(OpenForReading(both).MapsMany(Page(511)));
  EXPECT_TRUE(OpenForReading(both).MapsMany(Page(512)));
}

TEST(GuestRamTest, OpensRamThatTheKernelShowsAsSeveralMappings) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 1}});
  ASSERT_EQ(::madvise(memory.At(Page(4)), 4096, MADV_DONTDUMP), 0);
  Write(memory, Pages(7, 1), 8);
  const GuestRam ram = OpenForReading(memory);
  EXPECT_EQ(ram.window().BytesOf(Pages(7, 1))[0], std::byte(8));
}

/// What RamFile::Open says to a region of the test's own process.
std::string RefusalOf(const GuestMapping& mapping, ByteCount length, ByteCount offset = {},
                      PageSize page_size = PageSize(4096)) {
  const VmRegion region{{"ram0", length, page_size},
                        VmmAddr(reinterpret_cast<uint64_t>(mapping.bytes())),
                        offset,
                        true};
  const auto file = RamFile::Open(::getpid(), region, RamAccess::kRead);
  return file.has_value() ? "accepted" : file.error().message;
}

TEST(RamFileRefuses, PrivateMemory) {
  const UniqueFd file = MakeBackingFile(BackingKind::kTmpfs, ByteCount(8192));
  const GuestMapping of_file(file.get(), ByteCount(8192), ByteCount(0), MAP_PRIVATE);
  EXPECT_THAT(RefusalOf(of_file, ByteCount(8192)), HasSubstr("share=on"));
  const GuestMapping anonymous(-1, ByteCount(8192), ByteCount(0), MAP_PRIVATE | MAP_ANONYMOUS);
  EXPECT_THAT(RefusalOf(anonymous, ByteCount(8192)), HasSubstr("share=on"));
}

TEST(RamFileRefuses, AFileOnADisk) {
  const UniqueFd file(::open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(file.get(), 8192), 0);
  const GuestMapping mapping(file.get(), ByteCount(8192), ByteCount(0), MAP_SHARED);
  EXPECT_THAT(RefusalOf(mapping, ByteCount(8192)), HasSubstr("neither on tmpfs nor on hugetlbfs"));
}

TEST(RamFileRefuses, ARegionThatIsNotAsItWasDescribed) {
  const UniqueFd file = MakeBackingFile(BackingKind::kTmpfs, ByteCount(8192));
  const GuestMapping mapping(file.get(), ByteCount(8192), ByteCount(0), MAP_SHARED);
  EXPECT_EQ(RefusalOf(mapping, ByteCount(8192)), "accepted");
  EXPECT_THAT(RefusalOf(mapping, ByteCount(1 << 30)), HasSubstr("not one mapping of one file"));
  EXPECT_THAT(RefusalOf(mapping, ByteCount(4096), ByteCount(4096)), HasSubstr("offset"));
  EXPECT_THAT(RefusalOf(mapping, ByteCount(8192), ByteCount(0), PageSize(2 << 20)),
              HasSubstr("pages of 4096 bytes"));
  ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
  EXPECT_THAT(RefusalOf(mapping, ByteCount(8192)), HasSubstr("4096 bytes, its mapping needs"));
}

}  // namespace
}  // namespace faultline::testing
