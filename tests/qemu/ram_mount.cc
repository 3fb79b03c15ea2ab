#include "tests/qemu/ram_mount.h"

#include <sys/mount.h>

#include <fstream>

namespace faultline::test {

namespace {

constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

uint64_t PoolSize() {
  uint64_t pages = 0;
  std::ifstream(kPool) >> pages;
  return pages;
}

void SetPoolSize(uint64_t pages) { std::ofstream(kPool) << pages; }

}  // namespace

RamMount::RamMount(const std::string& type, const std::string& options)
    : ready_(mount(type.c_str(), folder_.path().c_str(), type.c_str(), 0, options.c_str()) == 0) {}

RamMount::~RamMount() {
  // Detached, because a QEMU that the test still owns may have its file open.
  if (ready_) umount2(folder_.path().c_str(), MNT_DETACH);
}

HugePages::HugePages(uint64_t count) : before_(PoolSize()) {
  SetPoolSize(before_ + count);
  ready_ = PoolSize() >= before_ + count;
}

HugePages::~HugePages() { SetPoolSize(before_); }

}  // namespace faultline::test
