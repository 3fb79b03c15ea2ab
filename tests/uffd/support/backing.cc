#include "tests/uffd/support/backing.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "perf/rig/huge_tmpfs.h"
#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
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

/// Other tests, also of other programs, use the pool meanwhile. False: for more than a minute.
bool LockInTurn(int setting) {
  return Eventually([&] { return ::flock(setting, LOCK_EX | LOCK_NB) == 0; },
                    std::chrono::seconds(60));
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
      return rig::MakeHugeTmpfsFile("huge=always").valid()
                 ? ""
                 : "cannot mount a tmpfs with huge=always";
    case BackingKind::kHugetlbfs: {
      const HugePagePool pool(1);
      return pool.filled() ? ""
                           : "no 2 MiB pages to be had (vm.nr_hugepages, or other tests have them)";
    }
  }
  return "?";
}

HugePagePool::HugePagePool(int pages) {
  if (pages == 0) return;
  setting_.Reset(::open(kPoolSetting, O_RDWR | O_CLOEXEC));
  if (!setting_.valid() || !LockInTurn(setting_.get())) return;
  before_ = ReadPool(setting_.get());
  WritePool(setting_.get(), before_ + pages);
  filled_ = ReadPool(setting_.get()) == before_ + pages;
  if (!filled_) WritePool(setting_.get(), before_);
}

HugePagePool::~HugePagePool() {
  if (filled_) WritePool(setting_.get(), before_);
}

UniqueFd MakeBackingFile(BackingKind kind, ByteCount length) {
  UniqueFd fd;
  switch (kind) {
    case BackingKind::kTmpfs:
      fd.Reset(::memfd_create("faultline-test", MFD_CLOEXEC));
      break;
    case BackingKind::kHugeTmpfs:
      fd = rig::MakeHugeTmpfsFile("huge=always");
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
