// `check` against really started QEMUs: what each wrong command line is told.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "qemu-integration/check.h"
#include "tests/qemu/hand_over_fixture.h"
#include "tests/qemu/qemu_process.h"
#include "tests/qemu/ram_mount.h"

namespace faultline::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

class CheckQemu : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    binary_ = QemuBinary(GetParam());
    if (binary_.empty()) GTEST_SKIP() << "QEMU " << GetParam() << " is not to be had here";
  }

  void Start(const Arguments& arguments) {
    qemu_.emplace(binary_, Arguments{"-bios", WriteCountingBios(folder_)} + arguments);
    Inspect({});
  }

  void Inspect(std::optional<int> pid) {
    auto qmp = QmpClient::Connect(qemu_->qmp_path());
    ASSERT_TRUE(qmp) << qmp.error().message;
    facts_ = InspectQemu(**qmp, pid);
  }

  std::string Refusal(VmRole role = VmRole::kSource) {
    if (!facts_) return facts_.error().message;
    const Status status = FirstRefusal(faultline::CheckQemu(*facts_, role));
    return status ? "" : status.error().message;
  }

  std::string Warnings() {
    std::string lines;
    for (const Finding& finding : faultline::CheckQemu(*facts_, VmRole::kSource)) {
      if (finding.severity == Severity::kWarning) lines += finding.line + "\n";
    }
    return lines;
  }

  std::string DestinationRefusal() { return Refusal(VmRole::kDestination); }

  /// RAM as `object` makes it.
  static Arguments Ram(const std::string& object) {
    return {"-machine", "pc,memory-backend=ram0",    "-m", "64",
            "-object",  object + ",id=ram0,size=64M"};
  }

  std::string binary_;
  TemporaryFolder folder_;
  RamFile ram_;
  RamFile more_ram_;
  std::optional<QemuProcess> qemu_;
  Result<QemuFacts> facts_ = Fail(ErrorKind::kInvalid, "not started");
};

const Arguments kIncoming = {"-incoming", "defer"};

TEST_P(CheckQemu, SharedRamOnTmpfsCanBeMoved) {
  Start(SharedRam(ram_.path()));
  EXPECT_EQ(Refusal(), "");
  const VmDescription vm = Describe(*facts_);
  EXPECT_EQ(vm.pid, qemu_->pid());
  EXPECT_THAT(vm.version, HasSubstr("QEMU " + GetParam()));
  ASSERT_EQ(vm.regions.size(), 1U);
  EXPECT_EQ(vm.regions[0].shape.id, "ram0");
  EXPECT_EQ(vm.regions[0].shape.length, ByteCount(kRamMib << 20));
  EXPECT_EQ(vm.regions[0].shape.page_size, PageSize(4096));
  EXPECT_TRUE(vm.regions[0].shared);
  EXPECT_NE(vm.regions[0].base, VmmAddr(0));
}

TEST_P(CheckQemu, AWaitingDestinationIsFineAndItsRamIsEmpty) {
  Start(SharedRam(ram_.path()) + kIncoming);
  EXPECT_EQ(DestinationRefusal(), "");
  EXPECT_EQ(RoleOf(*facts_), VmRole::kDestination);
  EXPECT_EQ(facts_->backends[0].file->populated, ByteCount(0));
}

TEST_P(CheckQemu, RamWithoutBackendIsRefused) {
  Start({"-machine", "pc", "-m", "64"});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("private memory"), HasSubstr("share=on")));
}

TEST_P(CheckQemu, RamFromMemPathAloneIsRefused) {
  Start({"-machine", "pc", "-m", "64", "-mem-path", "/dev/shm"});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("private memory"), HasSubstr("share=on")));
}

TEST_P(CheckQemu, AnonymousBackendsAreRefused) {
  Start(Ram("memory-backend-ram,share=on"));
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("memory-backend-ram"), HasSubstr("memory-backend-file")));
}

TEST_P(CheckQemu, MemfdBackendsAreRefused) {
  Start(Ram("memory-backend-memfd,share=on"));
  EXPECT_THAT(Refusal(), HasSubstr("memory-backend-memfd"));
}

TEST_P(CheckQemu, APrivateFileIsRefused) {
  Start(Ram("memory-backend-file,share=off,mem-path=" + ram_.path()));
  EXPECT_THAT(Refusal(), HasSubstr("not share=on"));
}

TEST_P(CheckQemu, AFileOnDiskIsRefused) {
  const TemporaryFolder disk("/var/tmp");
  Start(SharedRam(disk.path() + "/ram"));
  EXPECT_THAT(Refusal(), HasSubstr("neither on tmpfs nor on hugetlbfs"));
}

TEST_P(CheckQemu, APreallocatedDestinationIsRefused) {
  Start(SharedRam(ram_.path(), ",prealloc=on") + kIncoming);
  EXPECT_THAT(DestinationRefusal(), HasSubstr("prealloc=on"));
}

TEST_P(CheckQemu, AMemoryLockedDestinationIsRefused) {
  Start(SharedRam(ram_.path()) + kIncoming + Arguments{"-overcommit", "mem-lock=on"});
  EXPECT_THAT(DestinationRefusal(), HasSubstr("mem-lock=on"));
}

TEST_P(CheckQemu, ADestinationWithoutIncomingIsRefused) {
  Start(SharedRam(ram_.path()));
  EXPECT_THAT(DestinationRefusal(), HasSubstr("-incoming defer"));
}

TEST_P(CheckQemu, ASourceThatWaitsForAGuestIsRefused) {
  Start(SharedRam(ram_.path()) + kIncoming);
  EXPECT_THAT(Refusal(), HasSubstr("no guest to move"));
}

TEST_P(CheckQemu, ADestinationThatListensElsewhereIsRefused) {
  Start(SharedRam(ram_.path()) + Arguments{"-incoming", "unix:" + folder_.path() + "/incoming"});
  EXPECT_THAT(DestinationRefusal(), HasSubstr("in use already"));
}

TEST_P(CheckQemu, ADestinationWhoseRamHasContentIsRefused) {
  std::ofstream(ram_.path()) << "left over from the last guest";
  std::filesystem::resize_file(ram_.path(), kRamMib << 20);
  Start(SharedRam(ram_.path()) + kIncoming);
  EXPECT_THAT(DestinationRefusal(), AllOf(HasSubstr("already holds"), HasSubstr(ram_.path())));
}

TEST_P(CheckQemu, APausedGuestIsRefused) {
  Start(SharedRam(ram_.path()) + Arguments{"-S"});
  EXPECT_THAT(Refusal(), HasSubstr("`cont` it first"));
}

TEST_P(CheckQemu, ADeviceThatCannotMigrateIsNamed) {
  Start(SharedRam(ram_.path()) + Arguments{"-device", "nvme,serial=1"});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("cannot migrate"), HasSubstr("nvme")));
}

TEST_P(CheckQemu, AnNvdimmIsRefused) {
  Start({"-machine", "pc,nvdimm=on,memory-backend=ram0", "-m", "64,slots=2,maxmem=1G", "-object",
         fmt::format("memory-backend-file,id=ram0,size=64M,share=on,mem-path={}", ram_.path()),
         "-object",
         fmt::format("memory-backend-file,id=nv0,size=128M,share=on,mem-path={}", more_ram_.path()),
         "-device", "nvdimm,memdev=nv0"});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("'nv0'"), HasSubstr("nvdimm")));
}

TEST_P(CheckQemu, MemoryThatIsSharedBetweenGuestsIsRefused) {
  Start(SharedRam(ram_.path()) +
        Arguments{"-object",
                  fmt::format("memory-backend-file,id=sh0,size=1M,share=on,mem-path={}",
                              more_ram_.path()),
                  "-device", "ivshmem-plain,memdev=sh0,master=on"});
  EXPECT_THAT(Refusal(), HasSubstr("ivshmem"));
}

TEST_P(CheckQemu, PluggableMemoryIsRefused) {
  Start({"-machine", "pc,memory-backend=ram0", "-m", "64,maxmem=2G", "-object",
         fmt::format("memory-backend-file,id=ram0,size=64M,share=on,mem-path={}", ram_.path()),
         "-object",
         fmt::format("memory-backend-file,id=vm0,size=512M,share=on,mem-path={}", more_ram_.path()),
         "-device", "virtio-mem-pci,memdev=vm0,requested-size=0"});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("'vm0'"), HasSubstr("virtio-mem")));
}

TEST_P(CheckQemu, FreePageReportingIsSeen) {
  Start(SharedRam(ram_.path()) + Arguments{"-device", "virtio-balloon-pci,free-page-reporting=on"});
  EXPECT_EQ(Refusal(), "");
  EXPECT_THAT(Warnings(), HasSubstr("free-page-reporting"));
}

TEST_P(CheckQemu, TheTmpfsMountDecidesOnHugePages) {
  const RamMount with("tmpfs", "huge=advise");
  const RamMount without("tmpfs", "huge=never");
  ASSERT_TRUE(with.ready() && without.ready()) << "mounting needs root";
  Start(SharedRam(with.path() + "/ram", ",align=2M"));
  EXPECT_EQ(Warnings(), "");
  qemu_.reset();
  Start(SharedRam(without.path() + "/ram"));
  EXPECT_THAT(Warnings(), HasSubstr("4 KiB pages only"));
}

TEST_P(CheckQemu, NumaNodesAndDimmsAreRegionsInTheOrderOfTheirIds) {
  Start(
      {"-machine", "pc", "-m", "64,slots=2,maxmem=1G", "-object",
       fmt::format("memory-backend-file,id=node1,size=32M,share=on,mem-path={}", ram_.path()),
       "-object", "memory-backend-file,id=node0,size=32M,share=on,mem-path=/dev/shm", "-object",
       fmt::format("memory-backend-file,id=dimm,size=128M,share=on,mem-path={}", more_ram_.path()),
       "-numa", "node,memdev=node1", "-numa", "node,memdev=node0", "-device", "pc-dimm,memdev=dimm",
       "-object", "memory-backend-ram,id=unused,size=4M"});
  EXPECT_EQ(Refusal(), "");
  const VmDescription vm = Describe(*facts_);
  ASSERT_EQ(vm.regions.size(), 3U);
  EXPECT_EQ(vm.regions[0].shape.id, "dimm");
  EXPECT_EQ(vm.regions[0].shape.length, ByteCount(128 << 20));
  EXPECT_EQ(vm.regions[1].shape.id, "node0");
  EXPECT_EQ(vm.regions[2].shape.id, "node1");
}

TEST_P(CheckQemu, ARamFileUnlinkedAfterwardsIsStillFound) {
  Start(SharedRam(ram_.path()));
  ASSERT_EQ(unlink(ram_.path().c_str()), 0);
  Inspect({});
  EXPECT_EQ(Refusal(), "");
}

TEST_P(CheckQemu, AnotherProcessIsNotTakenForQemu) {
  Start(SharedRam(ram_.path()));
  Inspect(getpid());
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("does not hold the QMP socket"), HasSubstr("--pid")));
}

TEST_P(CheckQemu, TheRightPidByHandIsAccepted) {
  Start(SharedRam(ram_.path()));
  Inspect(qemu_->pid());
  EXPECT_EQ(Refusal(), "");
}

TEST_P(CheckQemu, NothingChangesInQemuByLooking) {
  Start(SharedRam(ram_.path()));
  auto qmp = QmpClient::Connect(qemu_->qmp_path());
  ASSERT_TRUE(qmp);
  const auto before = (*qmp)->Execute("query-migrate-capabilities");
  ASSERT_TRUE(InspectQemu(**qmp, {}));
  EXPECT_EQ(before.value(), (*qmp)->Execute("query-migrate-capabilities").value());
  EXPECT_EQ((*qmp)->Execute("query-migrate").value(), Json::object());
}

INSTANTIATE_FOR_EACH_QEMU(CheckQemu);

}  // namespace
}  // namespace faultline::test
