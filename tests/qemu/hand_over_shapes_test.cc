// The hand-over of guests of other shapes: several NUMA nodes, two page sizes, RAM files without a
// name, a QEMU that is not root's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/qemu/hand_over_fixture.h"
#include "tests/qemu/ram_mount.h"

namespace faultline::test {
namespace {

using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

Arguments TwoNodes(const std::string& first, const std::string& second) {
  return {"-machine", "pc",
          "-m",       "128",
          "-object",  fmt::format("memory-backend-file,id=a,size=64M,share=on,mem-path={}", first),
          "-object",  fmt::format("memory-backend-file,id=b,size=64M,share=on,mem-path={}", second),
          "-numa",    "node,memdev=a",
          "-numa",    "node,memdev=b"};
}

class HandOverShapes : public HandOverTest {
 protected:
  void ExpectMoves() {
    Stop();
    Load();
    EXPECT_TRUE(StandsStill(source_->description()));
    ASSERT_OK(destination_->Run());
    EXPECT_TRUE(Runs(destination_->description()));
    EXPECT_TRUE(StandsStill(source_->description()));
  }

  /// A disk that both sides open, as on shared storage. QEMU locks the image of a guest that
  /// runs, so two running guests cannot have it.
  std::string DiskImage() {
    const std::string path = folder_.path() + "/disk.img";
    std::ofstream(path, std::ios::app).close();
    std::filesystem::resize_file(path, 64 << 20);
    return fmt::format("if=none,id=d0,format=raw,file={},file.locking=on", path);
  }

  RamFile second_source_ram_;
  RamFile second_destination_ram_;
};

TEST_P(HandOverShapes, TwoNumaNodes) {
  StartSource(TwoNodes(source_ram_.path(), second_source_ram_.path()) + Guest());
  StartDestination(TwoNodes(destination_ram_.path(), second_destination_ram_.path()) + Guest());
  EXPECT_EQ(source_->description().regions.size(), 2U);
  ExpectMoves();
}

TEST_P(HandOverShapes, TwoPageSizes) {
  const HugePages pages(64);
  const RamMount huge("hugetlbfs", "pagesize=2M");
  if (!huge.ready() || !pages.ready()) GTEST_SKIP() << "2 MiB pages cannot be reserved here";
  StartSource(TwoNodes(source_ram_.path(), huge.path() + "/source") + Guest());
  StartDestination(TwoNodes(destination_ram_.path(), huge.path() + "/destination") + Guest());
  const auto& regions = source_->description().regions;
  ASSERT_EQ(regions.size(), 2U);
  EXPECT_EQ(regions[0].shape.page_size, PageSize(4096));
  EXPECT_EQ(regions[1].shape.page_size, PageSize(2 << 20));
  ExpectMoves();
}

TEST_P(HandOverShapes, RamFilesThatNeverHadAName) {
  StartSource(SharedRam("/dev/shm") + Guest());
  StartDestination(SharedRam("/dev/shm/") + Guest());
  ExpectMoves();
}

TEST_P(HandOverShapes, HugePagesWithoutAName) {
  const HugePages pages(64);
  const RamMount huge("hugetlbfs", "pagesize=2M");
  if (!huge.ready() || !pages.ready()) GTEST_SKIP() << "2 MiB pages cannot be reserved here";
  StartSource(SharedRam(huge.path()) + Guest());
  StartDestination(SharedRam(huge.path()) + Guest());
  EXPECT_EQ(source_->description().regions[0].shape.page_size, PageSize(2 << 20));
  ExpectMoves();
}

TEST_P(HandOverShapes, AQemuOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to start QEMU as nobody";
  // 7.2 drops root itself; 10.0 no longer can, so its launcher does.
  const bool drops_root = GetParam() == "7.2";
  const Arguments before = drops_root ? Arguments{} : Arguments{"--as", "nobody"};
  const Arguments after = drops_root ? Arguments{"-runas", "nobody"} : Arguments{};
  StartSource(before + SharedRam(source_ram_.path()) + Guest() + after);
  StartDestination(before + SharedRam(destination_ram_.path()) + Guest() + after);
  ExpectMoves();
}

TEST_P(HandOverShapes, AGuestWithDisksNetworkAndManyProcessors) {
  const Arguments devices = {"-smp",    "4",
                             "-drive",  DiskImage(),
                             "-device", "virtio-blk-pci,drive=d0",
                             "-netdev", "user,id=n0",
                             "-device", "virtio-net-pci,netdev=n0",
                             "-device", "virtio-balloon-pci"};
  StartSource(SharedRam(source_ram_.path()) + Guest() + devices);
  StartDestination(SharedRam(destination_ram_.path()) + Guest() + devices);
  ExpectMoves();
}

TEST_P(HandOverShapes, TheDiskIsTheSourcesUntilTheDestinationRuns) {
  const Arguments disk = {"-drive", DiskImage(), "-device", "virtio-blk-pci,drive=d0"};
  StartSource(SharedRam(source_ram_.path()) + Guest() + disk);
  StartDestination(SharedRam(destination_ram_.path()) + Guest() + disk);
  Stop();
  Load();
  ExpectSourceRunsAgain();
  const Status second = destination_->Run();
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("lock"));
  EXPECT_TRUE(Runs(source_->description()));
}

INSTANTIATE_FOR_EACH_QEMU(HandOverShapes);

}  // namespace
}  // namespace faultline::test
