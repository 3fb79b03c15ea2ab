// The real thing: attach to an unmodified QEMU and let go of it again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
#include "uffd/attach.h"
#include "uffd/guest_ram.h"
#include "uffd/proc_maps.h"

namespace faultline::testing {
namespace {

constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";

int ExecQemu() {
  ::execl(kQemu, kQemu, "-S", "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "64",
          "-machine", "q35,memory-backend=ram0", "-object",
          "memory-backend-file,id=ram0,size=64M,mem-path=/dev/shm,share=on", nullptr);
  return 127;
}

/// The guest's RAM among the mappings of a QEMU that has just started.
std::vector<ProcMapping> RamOf(int pid) {
  return MappingsOfPathPrefix(MergeFileMappings(Require(ReadProcMaps(pid))),
                              "/dev/shm/qemu_back_mem.ram0.");
}

TEST(AttachToQemu, RegistersItsRamAndLeavesItAsItWas) {
  if (::access(kQemu, X_OK) != 0) GTEST_SKIP() << kQemu << " is not installed";
  Victim qemu(ExecQemu);
  ASSERT_TRUE(Eventually([&] { return RamOf(qemu.pid()).size() == 1; }));
  ASSERT_TRUE(qemu.AwaitAsleepIn(SYS_ppoll));  // in its main loop
  const ProcMapping mapping = RamOf(qemu.pid()).front();
  EXPECT_EQ(mapping.length(), ByteCount(64 << 20));

  const RegionShape shape{"ram0", mapping.length(),
                          Require(RamFile::PageSizeOfMapping(qemu.pid(), mapping.start))};
  const Geometry geometry = Require(Geometry::Create({shape}));
  const VmDescription vm{qemu.pid(), "QEMU", {{shape, mapping.start, mapping.file_offset, true}}};
  const GuestRam ram = Require(GuestRam::Open(geometry, vm, RamAccess::kReadWrite));

  const TargetProcess target = Require(TargetProcess::Open(qemu.pid()));
  const AttachedUserfault attached = Require(AttachUserfault(target));
  EXPECT_EQ(qemu.CountUserfaultFds(), 1);
  Require(attached.uffd.Register(mapping.start, mapping.length(), UffdMode::kMissingAndMinor));
  Require(attached.uffd.Unregister(mapping.start, mapping.length()));
  Require(CloseRemoteFd(target, attached.remote_fd));
  EXPECT_EQ(qemu.CountUserfaultFds(), 0);
  EXPECT_TRUE(target.IsAlive());
  EXPECT_TRUE(qemu.AwaitAsleepIn(SYS_ppoll));

  qemu.Signal(SIGTERM);  // its main loop still works: it ends in good order
  EXPECT_EQ(qemu.ExitStatus(), 0);
}

}  // namespace
}  // namespace faultline::testing
