#include "tests/uffd/support/backing.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "tests/uffd/support/require.h"
#include "uffd/system_error.h"

namespace faultline::testing {

namespace {

constexpr const char* kPoolSetting = "/proc/sys/vm/nr_hugepages";

int ReadPool(int fd) {
  std::array<char, 32> text{};
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  int pages = 0;
  std::from_chars(text.data(), text.data() + std::max<ssize_t>(got, 0), pages);
  return pages;
}

void WritePool(int fd, int pages) {
  const std::string text = std::to_string(pages);
  [[maybe_unused]] const ssize_t put = ::pwrite(fd, text.data(), text.size(), 0);
}

/// The mount outlives its name: it goes when the last file of it is closed.
UniqueFd MakeHugeTmpfsFile() {
  std::string directory = "/tmp/faultline-test-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) return {};
  UniqueFd fd;
  if (::mount("faultline-test", directory.c_str(), "tmpfs", 0, "huge=always") == 0) {
    fd.Reset(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ::umount2(directory.c_str(), MNT_DETACH);
  }
  ::rmdir(directory.c_str());
  return fd;
}

}  // namespace

std::string NameOf(BackingKind kind) {
  switch (kind) {
    case BackingKind::kTmpfs:
      return "Tmpfs";
    case BackingKind::kHugeTmpfs:
      return "HugeTmpfs";
    case BackingKind::kHugetlbfs:
      return "Hugetlbfs";
  }
  return "?";
}

PageSize PageSizeOf(BackingKind kind) {
  return PageSize(kind == BackingKind::kHugetlbfs ? 2 << 20 : 4096);
}

std::string WhyUnavailable(BackingKind kind) {
  switch (kind) {
    case BackingKind::kTmpfs:
      return "";
    case BackingKind::kHugeTmpfs:
      return MakeHugeTmpfsFile().valid() ? "" : "cannot mount a tmpfs with huge=always";
    case BackingKind::kHugetlbfs: {
      const HugePagePool pool(1);
      return pool.filled() ? "" : "the kernel gives no 2 MiB pages (vm.nr_hugepages)";
    }
  }
  return "?";
}

HugePagePool::HugePagePool(int pages) {
  if (pages == 0) return;
  setting_.Reset(::open(kPoolSetting, O_RDWR | O_CLOEXEC));
  if (!setting_.valid()) return;
  ::flock(setting_.get(), LOCK_EX);
  before_ = ReadPool(setting_.get());
  WritePool(setting_.get(), before_ + pages);
  filled_ = ReadPool(setting_.get()) == before_ + pages;
}

HugePagePool::~HugePagePool() {
  if (setting_.valid()) WritePool(setting_.get(), before_);
}

UniqueFd MakeBackingFile(BackingKind kind, ByteCount length) {
  UniqueFd fd;
  switch (kind) {
    case BackingKind::kTmpfs:
      fd.Reset(::memfd_create("faultline-test", MFD_CLOEXEC));
      break;
    case BackingKind::kHugeTmpfs:
      fd = MakeHugeTmpfsFile();
      break;
    case BackingKind::kHugetlbfs:
      fd.Reset(::memfd_create("faultline-test", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));
      break;
  }
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(length.value())) != 0) {
    Require(Status(SystemFailure("make a file for guest RAM", errno)));
  }
  return fd;
}

}  // namespace faultline::testing
