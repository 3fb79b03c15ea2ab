// Every refusal and warning on invented facts: what cannot be started here, and what must not
// depend on the machine. check_qemu_test.cc has the real QEMUs.
#include "qemu-integration/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qemu-integration/migration_setup.h"

namespace faultline::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kGib = uint64_t{1} << 30;

RamBackend GoodRam(const std::string& id, uint64_t inode) {
  RamBackend backend;
  backend.id = id;
  backend.type = "memory-backend-file";
  backend.mem_path = "/dev/shm/" + id;
  backend.size = ByteCount(kGib);
  backend.share = true;
  backend.mapping =
      MappedFile{VmmAddr(kGib), ByteCount(kGib), {}, true, "00:1b", inode, backend.mem_path, false};
  backend.file = FileFacts{FileSystem::kTmpfs, PageSize(4096), {}, "advise"};
  return backend;
}

QemuFacts GoodSource() {
  QemuFacts facts;
  facts.qmp_path = "/run/qmp";
  facts.pid = 4711;
  facts.process_name = "qemu-system-x86";
  facts.version = "10.0.2";
  facts.version_major = 10;
  facts.machine = "pc-q35-10.0";
  facts.vcpus = 2;
  facts.status = "running";
  for (const char* needed : kNeededCapabilities) facts.capabilities.emplace_back(needed);
  facts.backends = {GoodRam("ram0", 7)};
  return facts;
}

QemuFacts GoodDestination() {
  QemuFacts facts = GoodSource();
  facts.status = "inmigrate";
  return facts;
}

std::string Refusal(const QemuFacts& facts, VmRole role = VmRole::kSource) {
  const Status status = FirstRefusal(CheckQemu(facts, role));
  return status ? "" : status.error().message;
}

std::string Warnings(const QemuFacts& facts) {
  std::string lines;
  for (const Finding& finding : CheckQemu(facts, VmRole::kSource)) {
    if (finding.severity == Severity::kWarning) lines += finding.line + "\n";
  }
  return lines;
}

TEST(Check, AGoodGuestIsRefusedNothingAndWarnedOfNothing) {
  EXPECT_EQ(Refusal(GoodSource()), "");
  EXPECT_EQ(Refusal(GoodDestination(), VmRole::kDestination), "");
  EXPECT_EQ(Warnings(GoodSource()), "");
}

TEST(Check, NotesTellTheMachineAndTheAccelerator) {
  const auto findings = CheckQemu(GoodSource(), VmRole::kSource);
  ASSERT_FALSE(findings.empty());
  EXPECT_THAT(findings[0].line, AllOf(HasSubstr("QEMU 10.0.2 (pid 4711)"), HasSubstr("TCG"),
                                      HasSubstr("pc-q35-10.0"), HasSubstr("1024 MiB")));
}

TEST(Check, RefusalsComeFirst) {
  QemuFacts facts = GoodSource();
  facts.free_page_reporting = true;
  facts.blocked_reasons = {"a reason"};
  const auto findings = CheckQemu(facts, VmRole::kSource);
  EXPECT_EQ(findings.front().severity, Severity::kRefusal);
  EXPECT_EQ(findings.back().severity, Severity::kNote);
}

TEST(Check, OneLinePerFinding) {
  QemuFacts facts = GoodSource();
  facts.backends[0].share = false;
  EXPECT_EQ(Refusal(facts).find('\n'), std::string::npos);
}

TEST(Check, ADestinationIsTheOneThatWaits) {
  EXPECT_EQ(RoleOf(GoodSource()), VmRole::kSource);
  EXPECT_EQ(RoleOf(GoodDestination()), VmRole::kDestination);
}

TEST(Check, PassedThroughDevicesAreRefusedByType) {
  QemuFacts facts = GoodSource();
  facts.devices = {{"/machine/peripheral/gpu", "vfio-pci"}};
  EXPECT_THAT(Refusal(facts), AllOf(HasSubstr("VFIO"), HasSubstr("/machine/peripheral/gpu")));
}

TEST(Check, PassedThroughDevicesAreRefusedByOpenFile) {
  QemuFacts facts = GoodSource();
  facts.special_files = {"/dev/vfio/12"};
  EXPECT_THAT(Refusal(facts), AllOf(HasSubstr("VFIO"), HasSubstr("/dev/vfio/12")));
}

TEST(Check, VhostUserDevicesAreRefused) {
  QemuFacts facts = GoodSource();
  facts.devices = {{"/machine/peripheral/fs", "vhost-user-fs-pci"}};
  EXPECT_THAT(Refusal(facts), HasSubstr("vhost-user"));
}

TEST(Check, VhostUserNetworksAreRefused) {
  QemuFacts facts = GoodSource();
  facts.netdev_types = {"tap", "vhost-user"};
  EXPECT_THAT(Refusal(facts), AllOf(HasSubstr("vhost-user"), HasSubstr("-netdev vhost-user")));
}

TEST(Check, VdpaIsRefused) {
  QemuFacts facts = GoodSource();
  facts.netdev_types = {"vhost-vdpa"};
  EXPECT_THAT(Refusal(facts), HasSubstr("vDPA"));
}

TEST(Check, KernelVhostIsFine) {
  // Its threads use QEMU's own page tables (kthread_use_mm), so their accesses fault like QEMU's.
  QemuFacts facts = GoodSource();
  facts.netdev_types = {"tap"};
  facts.special_files = {};
  facts.devices = {{"/machine/peripheral/vsock", "vhost-vsock-pci"}};
  EXPECT_EQ(Refusal(facts), "");
}

TEST(Check, ConfidentialGuestsAreRefused) {
  QemuFacts facts = GoodSource();
  facts.confidential = "/objects/sev0";
  EXPECT_THAT(Refusal(facts), AllOf(HasSubstr("confidential"), HasSubstr("/objects/sev0")));
}

TEST(Check, AQemuWithoutIgnoreSharedIsRefused) {
  QemuFacts facts = GoodSource();
  facts.capabilities = {"events", "pause-before-switchover", "return-path"};
  EXPECT_THAT(Refusal(facts), HasSubstr("x-ignore-shared"));
}

TEST(Check, AMigrationUnderWayIsRefused) {
  QemuFacts facts = GoodSource();
  facts.migration_status = "active";
  EXPECT_THAT(Refusal(facts), HasSubstr("under way"));
}

TEST(Check, AFailedOrCancelledMigrationIsNoObstacle) {
  QemuFacts facts = GoodSource();
  facts.migration_status = "failed";
  EXPECT_EQ(Refusal(facts), "");
  facts.migration_status = "cancelled";
  EXPECT_EQ(Refusal(facts), "");
}

TEST(Check, AGuestThatWasMovedAwayIsRefused) {
  QemuFacts facts = GoodSource();
  facts.status = "postmigrate";
  facts.migration_status = "completed";
  EXPECT_THAT(Refusal(facts), HasSubstr("migrated away"));
}

TEST(Check, GigabytePagesAreAWarning) {
  QemuFacts facts = GoodSource();
  facts.backends[0].file = FileFacts{FileSystem::kHugetlbfs, PageSize(kGib), {}, ""};
  EXPECT_EQ(Refusal(facts), "");
  EXPECT_THAT(Warnings(facts), HasSubstr("1 GiB pages"));
}

TEST(Check, SmallPagesAreAWarningThatSaysHowToGetLargeOnes) {
  QemuFacts facts = GoodSource();
  facts.backends[0].file->huge = "never";
  EXPECT_THAT(Warnings(facts), HasSubstr("remount,huge=advise"));
}

TEST(Check, RamWhereNoHugePageCanBeMappedIsAWarning) {
  QemuFacts facts = GoodSource();
  facts.backends[0].mapping->base = VmmAddr(kGib + 4096);
  EXPECT_THAT(Warnings(facts), HasSubstr("align=2M"));
  facts.backends[0].mapping->file_offset = ByteCount(4096);
  EXPECT_THAT(Warnings(facts), Not(HasSubstr("align=2M")));
}

TEST(Check, FreePageReportingIsAWarning) {
  QemuFacts facts = GoodSource();
  facts.free_page_reporting = true;
  EXPECT_THAT(Warnings(facts), HasSubstr("free-page-reporting"));
}

TEST(Check, TwoBackendsOnOneFileAreRefused) {
  QemuFacts facts = GoodSource();
  facts.backends = {GoodRam("ram0", 7), GoodRam("ram1", 7)};
  EXPECT_THAT(Refusal(facts), HasSubstr("the same file"));
}

TEST(Check, AMappingThatIsNotFoundSuggestsThePid) {
  QemuFacts facts = GoodSource();
  facts.process_name = "libvirtd";
  facts.backends[0].mapping.reset();
  EXPECT_THAT(Refusal(facts), AllOf(HasSubstr("libvirtd"), HasSubstr("--pid")));
}

TEST(Check, LockedMemoryIsRefusedAtTheDestinationOnly) {
  QemuFacts facts = GoodDestination();
  facts.locked = ByteCount(kGib);
  EXPECT_THAT(Refusal(facts, VmRole::kDestination), HasSubstr("mem-lock"));
  facts.status = "running";
  EXPECT_EQ(Refusal(facts, VmRole::kSource), "");
}

TEST(Check, TooManyBackendsAreRefused) {
  QemuFacts facts = GoodSource();
  facts.backends.clear();
  for (uint64_t i = 0; i <= kRegionsMax; ++i) {
    facts.backends.push_back(GoodRam("ram" + std::to_string(i), i + 1));
  }
  EXPECT_THAT(Refusal(facts), HasSubstr("at most 64"));
}

TEST(CompareMachines, EqualMachinesHaveNoFindings) {
  EXPECT_TRUE(CompareMachines(MachineOf(GoodSource()), MachineOf(GoodDestination())).empty());
}

TEST(CompareMachines, EachDifferenceIsNamed) {
  const MachineFacts source = MachineOf(GoodSource());
  const MachineFacts destination = {"pc-i440fx-7.2", true, 4, ByteCount(2 * kGib)};
  const auto findings = CompareMachines(source, destination);
  ASSERT_EQ(findings.size(), 4U);
  EXPECT_THAT(findings[0].line, HasSubstr("-machine pc-q35-10.0"));
  EXPECT_THAT(findings[1].line, HasSubstr("2048 MiB"));
  EXPECT_THAT(findings[2].line, HasSubstr("-smp"));
  EXPECT_EQ(findings[3].severity, Severity::kWarning);
}

}  // namespace
}  // namespace faultline::test
