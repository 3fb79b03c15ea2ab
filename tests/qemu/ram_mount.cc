#include "tests/qemu/ram_mount.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>

namespace faultline::test {

namespace {

constexpr const char* kPool = "/proc/sys/vm/nr_hugepages";

uint64_t PoolSize(int setting) {
  char text[32] = {};
  if (pread(setting, text, sizeof text - 1, 0) <= 0) return 0;
  return std::stoull(text);
}

void SetPoolSize(int setting, uint64_t pages) {
  const std::string text = std::to_string(pages);
  [[maybe_unused]] const ssize_t written = pwrite(setting, text.data(), text.size(), 0);
}

}  // namespace

RamMount::RamMount(const std::string& type, const std::string& options)
    : ready_(mount(type.c_str(), folder_.path().c_str(), type.c_str(), 0, options.c_str()) == 0) {}

RamMount::~RamMount() {
  // Detached, because a QEMU that the test still owns may have its file open.
  if (ready_) umount2(folder_.path().c_str(), MNT_DETACH);
}

HugePages::HugePages(uint64_t count) : setting_(open(kPool, O_RDWR | O_CLOEXEC)) {
  if (setting_ < 0) return;
  flock(setting_, LOCK_EX);
  before_ = PoolSize(setting_);
  SetPoolSize(setting_, before_ + count);
  ready_ = PoolSize(setting_) >= before_ + count;
}

HugePages::~HugePages() {
  if (setting_ < 0) return;
  SetPoolSize(setting_, before_);
  close(setting_);
}

}  // namespace faultline::test
