// The parser of /proc/PID/maps, on text; and /proc itself, on this process.
#include "qemu-integration/proc_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "tests/qemu/qemu_process.h"

namespace faultline::test {
namespace {

constexpr const char* kQemu =
    "55d0c0000000-55d0c0a00000 r-xp 00000000 fe:00 1234                       /usr/bin/qemu\n"
    "7f0000000000-7f0004000000 rw-s 00000000 00:1b 2                          /dev/shm/ram0\n"
    "7f0004000000-7f0008000000 rw-p 00000000 00:00 0 \n"
    "7f0010000000-7f0018000000 rw-s 00001000 00:1b 3      "
    "                    /dev/shm/qemu_back_mem.dm1.N5WeBQ (deleted)\n"
    "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n";

TEST(ParseMaps, TellsFileMappingsAndNothingElse) {
  const auto mappings = ParseMaps(kQemu);
  ASSERT_EQ(mappings.size(), 3U);
  EXPECT_EQ(mappings[1].path, "/dev/shm/ram0");
  EXPECT_EQ(mappings[1].base, VmmAddr(0x7f0000000000));
  EXPECT_EQ(mappings[1].length, ByteCount(64 << 20));
  EXPECT_EQ(mappings[1].inode, 2U);
  EXPECT_EQ(mappings[1].device, "00:1b");
  EXPECT_TRUE(mappings[1].shared);
  EXPECT_FALSE(mappings[1].deleted);
  EXPECT_FALSE(mappings[0].shared);
}

TEST(ParseMaps, AnUnlinkedFileKeepsItsNameAndOffset) {
  const auto mappings = ParseMaps(kQemu);
  ASSERT_EQ(mappings.size(), 3U);
  EXPECT_EQ(mappings[2].path, "/dev/shm/qemu_back_mem.dm1.N5WeBQ");
  EXPECT_TRUE(mappings[2].deleted);
  EXPECT_EQ(mappings[2].file_offset, ByteCount(0x1000));
}

TEST(ParseMaps, VmasThatContinueOneAnotherAreOneMapping) {
  const auto mappings = ParseMaps(
      "7f0000000000-7f0001000000 rw-s 00000000 00:1b 2 /dev/shm/ram0\n"
      "7f0001000000-7f0001200000 r--s 01000000 00:1b 2 /dev/shm/ram0\n"
      "7f0001200000-7f0004000000 rw-s 01200000 00:1b 2 /dev/shm/ram0\n");
  ASSERT_EQ(mappings.size(), 1U);
  EXPECT_EQ(mappings[0].length, ByteCount(64 << 20));
  EXPECT_EQ(mappings[0].first_length, ByteCount(16 << 20));
}

TEST(ParseMaps, NeighboursWithAnotherFileOffsetOrSharingStayApart) {
  const auto mappings = ParseMaps(
      "7f0000000000-7f0001000000 rw-s 00000000 00:1b 2 /dev/shm/ram0\n"
      "7f0001000000-7f0002000000 rw-s 01000000 00:1b 3 /dev/shm/ram1\n"
      "7f0002000000-7f0003000000 rw-s 05000000 00:1b 3 /dev/shm/ram1\n"
      "7f0003000000-7f0004000000 rw-p 06000000 00:1b 3 /dev/shm/ram1\n");
  EXPECT_EQ(mappings.size(), 4U);
}

TEST(ParseMaps, APathWithSpacesIsWhole) {
  const auto mappings = ParseMaps("1000-2000 rw-s 00000000 00:1b 2    /dev/shm/my guest (deleted)");
  ASSERT_EQ(mappings.size(), 1U);
  EXPECT_EQ(mappings[0].path, "/dev/shm/my guest");
}

TEST(ParseMaps, WhatIsNoMapsFileHasNoMappings) {
  EXPECT_TRUE(ParseMaps("").empty());
  EXPECT_TRUE(ParseMaps("\n\n\n").empty());
  EXPECT_TRUE(ParseMaps("hello world\n-\nzz-zz rw-s 0 0 0\n1000-1000 rw-s 0 00:1b 2 /x").empty());
  EXPECT_TRUE(ParseMaps("1000-2000 rw-s 0 00:1b 99999999999999999999999 /x").empty());
}

TEST(StatMapping, TellsTmpfsAndHowMuchIsPopulated) {
  const RamFile ram;
  const int file = open(ram.path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(ftruncate(file, 1 << 20), 0);
  void* mapped = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_EQ(pwrite(file, "x", 1, 4096), 1);
  close(file);
  // Two VMAs that are one mapping.
  ASSERT_EQ(mprotect(static_cast<char*>(mapped) + (1 << 19), 1 << 19, PROT_READ), 0);
  const VmmAddr base(reinterpret_cast<uint64_t>(mapped));
  const auto mappings = ReadMaps(getpid());
  ASSERT_TRUE(mappings) << mappings.error().message;
  const auto mapping = std::find_if(mappings->begin(), mappings->end(),
                                    [base](const MappedFile& each) { return each.base == base; });
  ASSERT_NE(mapping, mappings->end());
  EXPECT_EQ(mapping->length, ByteCount(1 << 20));
  const auto facts = StatMapping(getpid(), *mapping);
  munmap(mapped, 1 << 20);
  ASSERT_TRUE(facts) << facts.error().message;
  EXPECT_EQ(facts->filesystem, FileSystem::kTmpfs);
  EXPECT_EQ(facts->page_size, PageSize(4096));
  EXPECT_GE(facts->populated, ByteCount(4096));
  EXPECT_LT(facts->populated, ByteCount(1 << 20));
}

TEST(ProcFiles, AProcessThatIsGoneIsAnErrorThatNamesIt) {
  constexpr int kNoSuchPid = 0x3FFFFFFF;
  const auto maps = ReadMaps(kNoSuchPid);
  ASSERT_FALSE(maps);
  EXPECT_NE(maps.error().message.find("/proc/1073741823/maps"), std::string::npos);
  EXPECT_FALSE(OpenFiles(kNoSuchPid));
  EXPECT_FALSE(LockedMemory(kNoSuchPid));
}

}  // namespace
}  // namespace faultline::test
