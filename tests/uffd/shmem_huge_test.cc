// Whether a tmpfs gives huge pages: by its mount, or by the system's setting.
#include "uffd/shmem_huge.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/uffd/support/backing.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

constexpr const char* kMounts =
    "21 1 0:19 / /sys rw,relatime - sysfs sysfs rw\n"
    "30 1 0:27 / /dev/shm rw,nosuid shared:3 - tmpfs tmpfs rw,size=1024k,huge=within_size,inode64\n"
    "31 1 0:28 / /run/huge=always rw - tmpfs tmpfs rw,inode64\n"
    "32 1 0:29 / /last rw - tmpfs none rw,huge=advise\n";

TEST(ShmemHuge, TheMountWithThatDeviceSaysIt) {
  EXPECT_EQ(HugeOptionIn(kMounts, makedev(0, 27)), "within_size");
  EXPECT_EQ(HugeOptionIn(kMounts, makedev(0, 29)), "advise");
}

TEST(ShmemHuge, AMountThatDoesNotSayItGivesNone) {
  EXPECT_EQ(HugeOptionIn(kMounts, makedev(0, 28)), "never");
}

TEST(ShmemHuge, AFileOfNoMountHasNoOption) {
  EXPECT_EQ(HugeOptionIn(kMounts, makedev(0, 1)), "");
  EXPECT_EQ(HugeOptionIn("", makedev(0, 27)), "");
}

TEST(ShmemHuge, TheChosenSettingIsTheOneInBrackets) {
  EXPECT_EQ(ChosenIn("always within_size [advise] never deny force\n"), "advise");
  EXPECT_EQ(ChosenIn(""), "");
  EXPECT_EQ(ChosenIn("]["), "");
}

bool Gives(BackingKind kind) {
  const UniqueFd file = MakeBackingFile(kind, ByteCount(uint64_t{2} << 20));
  struct stat info {};
  EXPECT_EQ(::fstat(file.get(), &info), 0);
  return TmpfsGivesHugePages(::getpid(), info);
}

TEST(ShmemHuge, AFileTellsWhetherItsTmpfsGivesThem) {
  const std::string reason = WhyUnavailable(BackingKind::kHugeTmpfs);
  if (!reason.empty()) GTEST_SKIP() << reason;
  EXPECT_TRUE(Gives(BackingKind::kHugeTmpfs));
}

TEST(ShmemHuge, AMountThatGivesThemOnAdviceIsFoundByItsOptions) {
  std::string directory = "/tmp/faultline-test-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  if (::mount("faultline-test", directory.c_str(), "tmpfs", 0, "huge=advise") != 0) {
    ::rmdir(directory.c_str());
    GTEST_SKIP() << "cannot mount a tmpfs with huge=advise";
  }
  struct stat info {};
  EXPECT_EQ(::stat(directory.c_str(), &info), 0);
  EXPECT_TRUE(TmpfsGivesHugePages(::getpid(), info));
  EXPECT_EQ(::umount2(directory.c_str(), MNT_DETACH), 0);
  ::rmdir(directory.c_str());
}

}  // namespace
}  // namespace faultline::testing
