#include "uffd/proc_maps.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

TEST(ProcMapsLine, GivesEveryField) {
  const ProcMapping mapping =
      Require(ParseProcMapsLine("7f53c3fff000-7f53c7fff000 rw-s 00002000 00:1b 164    "
                                "/dev/shm/qemu_back_mem.ram0.nzi (deleted)"));
  EXPECT_EQ(mapping.start.value(), 0x7f53c3fff000U);
  EXPECT_EQ(mapping.length().value(), 0x4000000U);
  EXPECT_TRUE(mapping.readable && mapping.writable && mapping.shared);
  EXPECT_FALSE(mapping.executable);
  EXPECT_EQ(mapping.file_offset.value(), 0x2000U);
  EXPECT_EQ(mapping.inode, 164U);
  EXPECT_EQ(mapping.path, "/dev/shm/qemu_back_mem.ram0.nzi (deleted)");
}

TEST(ProcMapsLine, TakesLinesWithoutAPath) {
  const ProcMapping mapping =
      Require(ParseProcMapsLine("7ffd1000-7ffd3000 ---p 00000000 00:00 0 "));
  EXPECT_EQ(mapping.path, "");
  EXPECT_EQ(mapping.inode, 0U);
  EXPECT_FALSE(mapping.readable || mapping.shared);
}

TEST(ProcMapsLine, KeepsBlanksAndRestoresNewlinesInAPath) {
  const ProcMapping mapping =
      Require(ParseProcMapsLine("1000-2000 r--p 00000000 08:01 7    /a b\\012c\\012"));
  EXPECT_EQ(mapping.path, "/a b\nc\n");
}

TEST(ProcMapsLine, RefusesWhatIsNoSuchLine) {
  EXPECT_FALSE(ParseProcMapsLine("").has_value());
  EXPECT_FALSE(ParseProcMapsLine("1000").has_value());
  EXPECT_FALSE(ParseProcMapsLine("2000-1000 r--p 0 08:01 7").has_value());
  EXPECT_FALSE(ParseProcMapsLine("1000-2000 r-").has_value());
  EXPECT_FALSE(ParseProcMapsLine("1000-2000 r--p 0 0801 7").has_value());
  EXPECT_FALSE(ParseProcMapsLine("1000-2000 r--p 0 08:01 x").has_value());
}

TEST(ProcMaps, FindsAFileOnceHoweverTheKernelSplitItsMapping) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 2}});
  ASSERT_EQ(::madvise(memory.At(PageIndex(3)), 4096, MADV_DONTDUMP), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(memory.file(0), &info), 0);
  const auto found = MappingsOfFile(MergeFileMappings(Require(ReadProcMaps(::getpid()))),
                                    info.st_dev, info.st_ino);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].start, memory.vm().regions[0].base);
  EXPECT_EQ(found[0].length(), memory.geometry().byte_count());
  EXPECT_EQ(found[0].file_offset, ByteCount(2 * 4096));
}

TEST(ProcMaps, FindsADeletedFileByTheStartOfItsName) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 0}});
  const auto found = MappingsOfPathPrefix(MergeFileMappings(Require(ReadProcMaps(::getpid()))),
                                          "/memfd:faultline-te");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].start, memory.vm().regions[0].base);
}

TEST(ProcMaps, DoesNotJoinNeighboursThatDoNotContinueEachOther) {
  const std::string first = "1000-2000 rw-s 00000000 00:1b 5 /a";
  const std::string gap = "2000-3000 rw-s 00005000 00:1b 5 /a";
  const std::string other = "3000-4000 rw-s 00006000 00:1b 6 /b";
  const auto merged =
      MergeFileMappings({Require(ParseProcMapsLine(first)), Require(ParseProcMapsLine(gap)),
                         Require(ParseProcMapsLine(other))});
  EXPECT_EQ(merged.size(), 3U);
}

TEST(ProcMaps, SaysWhichProcessCouldNotBeRead) {
  const auto maps = ReadProcMaps(-1);
  ASSERT_FALSE(maps.has_value());
  EXPECT_NE(maps.error().message.find("process -1"), std::string::npos);
}

}  // namespace
}  // namespace faultline::testing
