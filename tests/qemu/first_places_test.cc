// What a guest touches first, told from the monitor's text and from page tables made by hand.
#include "qemu-integration/first_places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "qemu-integration/guest_page_tables.h"
#include "qemu-integration/kernel_image.h"

namespace faultline::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kPresent = 1;
constexpr uint64_t kUser = 1 << 2;
constexpr uint64_t kAccessed = 1 << 5;
constexpr uint64_t kLarge = 1 << 7;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kUsed = kPresent | kAccessed;

constexpr const char* kMtree =
    "FlatView #0\n"
    " AS \"memory\", root: system\n"
    " Root memory region: system\n"
    "  0000000000000000-00000000000c2fff (prio 0, ram): ram0\n"
    "  00000000000c3000-00000000000e7fff (prio 0, rom): pc.rom @0000000000003000\n"
    "  0000000000100000-000000007fffffff (prio 0, ram): /objects/ram0 @0000000000100000\n"
    "  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram\n"
    "  0000000100000000-000000013fffffff (prio 0, ram): ram0 @0000000080000000 KVM\n"
    "  0000000140000000-000000014fffffff (prio 0, ram): ram1\n"
    "  0000000150000000-000000025fffffff (prio 0, ram): ram1\n";

std::vector<VmRegion> Regions() {
  std::vector<VmRegion> regions(2);
  regions[0].shape = {"ram0", ByteCount(uint64_t{3} << 30), PageSize(4096)};
  regions[1].shape = {"ram1", ByteCount(uint64_t{256} << 20), PageSize(4096)};
  return regions;
}

std::string PlaceOf(uint64_t address) {
  const auto place = GuestLayout::Parse(kMtree, Regions()).PlaceOf(GuestAddr(address));
  return place ? std::to_string(place->region) + "@" + std::to_string(place->offset.value())
               : "nowhere";
}

TEST(GuestLayout, FindsTheBackendBelowAndAboveTheHole) {
  EXPECT_EQ(PlaceOf(0x8123), "0@32768");
  EXPECT_EQ(PlaceOf(0x1'0000'1000), "0@" + std::to_string(0x8000'1000));
  EXPECT_EQ(PlaceOf(0x1'4000'0000), "1@0");
}

TEST(GuestLayout, KnowsNothingOfRomDevicesAndHoles) {
  EXPECT_EQ(PlaceOf(0xc3000), "nowhere");
  EXPECT_EQ(PlaceOf(0xfd00'0000), "nowhere");
  EXPECT_EQ(PlaceOf(0x9000'0000), "nowhere");
}

TEST(GuestLayout, DropsAPieceThatIsLongerThanItsBackend) {
  EXPECT_EQ(PlaceOf(0x1'5000'0000), "nowhere");
}

TEST(GuestLayout, TextThatIsSomethingElseGivesNothing) {
  EXPECT_TRUE(GuestLayout::Parse("unknown command: 'info mtree'", Regions()).empty());
  EXPECT_TRUE(GuestLayout::Parse("", Regions()).empty());
}

constexpr const char* kRegisters =
    "\nCPU#0\n"
    "RSI=d7e8ba9fb378fb43 RDI=00007f905bf4e000 RBP=000000001c06fd00 RSP=00007ffcbb542130\n"
    "RIP=0000000000402f98 RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\n"
    "FS =0000 000000001c06e3c0 00000000 00000000\n"
    "GS =0000 ffff88803ea00000 00000000 00000000\n"
    "LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT\n"
    "TR =0040 fffffe0000003000 00004087 00008900 DPL=0 TSS64-avl\n"
    "GDT=     fffffe0000001000 0000007f\n"
    "IDT=     fffffe0000000000 00000fff\n"
    "CR0=80050033 CR2=00007f905d28d000 CR3=800000000490201f CR4=000016f0\n"
    "EFER=0000000000000d01\n"
    "\nCPU#1\n"
    "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\n"
    "CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\n"
    "EFER=0000000000000000\n";

TEST(ParseRegisters, TakesProcessorsInLongModeOnly) {
  const auto cpus = ParseRegisters(kRegisters);
  ASSERT_EQ(cpus.size(), 1U);
  EXPECT_EQ(cpus[0].page_table_root, 0x4902000U);
  EXPECT_TRUE(cpus[0].five_levels);
  EXPECT_EQ(cpus[0].instruction, 0x402f98U);
  EXPECT_EQ(cpus[0].stack, 0x7ffcbb542130U);
  EXPECT_EQ(cpus[0].fs, 0x1c06e3c0U);
  EXPECT_EQ(cpus[0].gs, 0xffff88803ea00000U);
  EXPECT_EQ(cpus[0].task_state, 0xfffffe0000003000U);
  EXPECT_EQ(cpus[0].descriptors, 0xfffffe0000001000U);
  EXPECT_EQ(cpus[0].interrupts, 0xfffffe0000000000U);
}

TEST(ParseRegisters, OtherTextGivesNoProcessor) {
  EXPECT_THAT(ParseRegisters(""), IsEmpty());
  EXPECT_THAT(ParseRegisters("CPU#0\nPC=0000000040000000 X00=0000000000000000\n"), IsEmpty());
}

/// Guest memory that holds page tables only.
class Tables {
 public:
  void Set(uint64_t table, size_t index, uint64_t entry) { memory_[table][index] = entry; }
  [[nodiscard]] GuestPageTables Open() {
    return GuestPageTables([this](GuestAddr at, GuestPageTables::Table& table) {
      const auto found = memory_.find(at.value());
      if (found == memory_.end()) return false;
      table = found->second;
      return true;
    });
  }

 private:
  std::map<uint64_t, GuestPageTables::Table> memory_;
};

constexpr VcpuRegisters kCpu{.page_table_root = 0x1000};

std::vector<uint64_t> Values(const std::vector<GuestAddr>& addresses) {
  std::vector<uint64_t> values;
  for (const GuestAddr address : addresses) values.push_back(address.value());
  return values;
}

TEST(GuestPageTables, ListsTheTablesInUseUpperLevelsFirst) {
  Tables memory;
  memory.Set(0x1000, 0, 0x2000 | kUsed | kUser);
  memory.Set(0x1000, 511, 0x3000 | kUsed);
  memory.Set(0x1000, 300, 0x9000 | kPresent);  // never used
  memory.Set(0x2000, 1, 0x4000 | kUsed | kUser);
  memory.Set(0x3000, 510, 0x5000 | kUsed);
  memory.Set(0x4000, 7, 0x6000 | kUsed | kUser);
  auto tables = memory.Open();
  tables.Walk(kCpu);
  EXPECT_THAT(Values(tables.tables()), ElementsAre(0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000));
}

TEST(GuestPageTables, ATableThatPointsToItselfIsWalkedOnce) {
  Tables memory;
  for (size_t i = 0; i < GuestPageTables::kEntries; ++i) memory.Set(0x1000, i, 0x1000 | kUsed);
  auto tables = memory.Open();
  tables.Walk(kCpu);
  tables.Walk(kCpu);
  EXPECT_THAT(Values(tables.tables()), ElementsAre(0x1000));
}

TEST(GuestPageTables, StopsAtItsLimits) {
  Tables memory;
  for (uint64_t i = 0; i < GuestPageTables::kEntries; ++i) {
    const uint64_t table = 0x100000 + i * 0x1000;
    memory.Set(0x1000, i, table | kUsed);
    for (uint64_t j = 0; j < GuestPageTables::kEntries; ++j) {
      memory.Set(table, j, (0x10000000 + (i * GuestPageTables::kEntries + j) * 0x1000) | kUsed);
    }
  }
  auto tables = memory.Open();
  tables.Walk(kCpu);
  EXPECT_EQ(tables.tables().size(), GuestPageTables::kTablesMax);
}

TEST(GuestPageTables, TranslatesThroughEverySizeOfPage) {
  Tables memory;
  memory.Set(0x1000, 0, 0x2000 | kUsed);
  memory.Set(0x2000, 0, 0x3000 | kUsed);
  memory.Set(0x2000, 1, 0x4000'0000 | kUsed | kLarge);
  memory.Set(0x3000, 1, 0x60'0000 | kUsed | kLarge);
  memory.Set(0x3000, 2, 0x4000 | kUsed);
  memory.Set(0x4000, 3, 0x7000 | kPresent | kNoExecute);
  auto tables = memory.Open();
  EXPECT_EQ(tables.Translate(kCpu, 0x4012'3456), GuestAddr(0x4012'3456));
  EXPECT_EQ(tables.Translate(kCpu, 0x0020'0123), GuestAddr(0x60'0123));
  EXPECT_EQ(tables.Translate(kCpu, 0x0040'3045), GuestAddr(0x7045));
  EXPECT_FALSE(tables.Translate(kCpu, 0x0040'4000));
  EXPECT_FALSE(tables.Translate(kCpu, 0x8000'0000));
}

constexpr uint64_t kWritable = 1 << 1;
constexpr VcpuRegisters kKernelCpu{.page_table_root = 0x1000, .interrupts = 0x100'0000};

constexpr uint64_t Large(uint64_t place) { return place | kUsed | kLarge; }

/// A kernel at 16 MiB of its addresses, its table of interrupts before it: 4 MiB of code at 8 MiB
/// of its memory, 2 MiB of constants behind, a gap, and 2 MiB of data elsewhere.
template <class Memory>
void KernelIn(Memory& memory) {
  constexpr uint64_t kHandler = 0x140'0123;
  memory.Set(0x1000, 0, 0x2000 | kUsed | kWritable);
  memory.Set(0x2000, 0, 0x3000 | kUsed | kWritable);
  memory.Set(0x3000, 8, 0x4000 | kUsed);  // 16 MiB
  memory.Set(0x4000, 0, 0x5000 | kUsed | kNoExecute);
  memory.Set(0x5000, 28, (kHandler & 0xffff) | kHandler >> 16 << 48 | uint64_t{1} << 47);
  memory.Set(0x5000, 29, 0);
  memory.Set(0x3000, 9, Large(0x80'0000));
  memory.Set(0x3000, 10, Large(0xa0'0000));
  memory.Set(0x3000, 11, Large(0xc0'0000) | kNoExecute);
  memory.Set(0x3000, 13, Large(0x200'0000) | kNoExecute | kWritable);
}

TEST(FindKernelImage, TakesTheCodeAroundTheFaultHandlerAndTheDataBehindIt) {
  Tables memory;
  KernelIn(memory);
  auto tables = memory.Open();
  const ByteCount large(0x20'0000);
  EXPECT_THAT(FindKernelImage(kKernelCpu, tables),
              ElementsAre(GuestRange{GuestAddr(0x80'0000), large},
                          GuestRange{GuestAddr(0xa0'0000), large},
                          GuestRange{GuestAddr(0x200'0000), large}));
}

TEST(FindKernelImage, IsNothingWhereFaultsEnterNowhere) {
  Tables memory;
  KernelIn(memory);
  memory.Set(0x5000, 28, 0);
  auto tables = memory.Open();
  EXPECT_THAT(FindKernelImage(kKernelCpu, tables), IsEmpty());
  EXPECT_THAT(FindKernelImage(kCpu, tables), IsEmpty());
}

TEST(FindKernelImage, StopsAtItsLimits) {
  Tables memory;
  KernelIn(memory);
  for (size_t i = 9; i < 200; ++i) {
    const uint64_t kind = i < 100 ? 0 : kNoExecute | kWritable;
    memory.Set(0x3000, i, Large(0x80'0000 + i * 0x20'0000) | kind);
  }
  auto tables = memory.Open();
  ByteCount taken;
  for (const GuestRange& range : FindKernelImage(kKernelCpu, tables)) taken += range.length;
  EXPECT_EQ(taken, kKernelCodeMax);
}

/// One region of RAM, read out of a map of its pages.
class Guest {
 public:
  void Set(uint64_t table, size_t index, uint64_t entry) { pages_[table][index] = entry; }
  FirstPlaces Find(const VcpuRegisters& cpu) {
    std::vector<VmRegion> regions(1);
    regions[0].shape = {"ram0", ByteCount(1 << 30), PageSize(4096)};
    const auto layout =
        GuestLayout::Parse("  0000000000000000-000000003fffffff (prio 0, ram): ram0", regions);
    return FindFirstPlaces({cpu}, layout, [this](RamPlace place, std::span<std::byte> out) {
      const auto found = pages_.find(place.offset.value());
      if (found == pages_.end()) return false;
      std::memcpy(out.data(), found->second.data(), out.size());
      return true;
    });
  }

 private:
  std::map<uint64_t, GuestPageTables::Table> pages_;
};

std::vector<uint64_t> Offsets(const std::vector<RamPlace>& places) {
  std::vector<uint64_t> offsets;
  for (const RamPlace& place : places) offsets.push_back(place.offset.value());
  return offsets;
}

TEST(FindFirstPlaces, NamesTablesTheStackAndWhatLiesAroundTheTaskState) {
  Guest guest;
  guest.Set(0x1000, 0, 0x2000 | kUsed | kUser);
  guest.Set(0x2000, 0, 0x3000 | kUsed | kUser);
  guest.Set(0x3000, 2, 0x4000 | kUsed | kUser);
  guest.Set(0x4000, 0, 0x5000 | kUsed | kUser);   // the stack
  guest.Set(0x4000, 9, 0x80000 | kUsed | kUser);  // the task state
  const std::vector<uint64_t> found =
      Offsets(guest
                  .Find({.page_table_root = 0x1000, .stack = 0x40'0010, .task_state = 0x40'9000})
                  .changing);
  EXPECT_THAT(found, ::testing::IsSupersetOf({0x1000, 0x2000, 0x3000, 0x4000, 0x5000}));
  EXPECT_THAT(found, ::testing::IsSupersetOf({0x80000, 0x81000, 0xbf000}));
}

TEST(FindFirstPlaces, AGuestWhoseTablesAreNotInItsRamGivesNothing) {
  Guest guest;
  EXPECT_THAT(guest.Find({.page_table_root = uint64_t{1} << 40}).changing, IsEmpty());
}

TEST(FindFirstPlaces, NamesTheOptionRomsAndTheKernelAsWhatLasts) {
  Guest guest;
  KernelIn(guest);
  const std::vector<uint64_t> found = Offsets(guest.Find(kKernelCpu).lasting);
  EXPECT_THAT(found, ::testing::IsSupersetOf({0xc0000, 0xc7000}));
  EXPECT_THAT(found, ::testing::IsSupersetOf({0x80'0000, 0xbf'f000, 0x200'0000, 0x21f'f000}));
  EXPECT_THAT(found, ::testing::Not(::testing::Contains(0xc0'0000))) << "constants";
}

}  // namespace
}  // namespace faultline::test
