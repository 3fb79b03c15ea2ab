// Places for RAM files that differ from /dev/shm: a tmpfs with another huge= option, a hugetlbfs.
#pragma once

#include <cstdint>
#include <string>

#include "tests/qemu/qemu_process.h"

namespace faultline::test {

/// A file system mounted for one test (needs root); unmounted with the object.
class RamMount {
 public:
  RamMount(const std::string& type, const std::string& options);
  ~RamMount();
  RamMount(const RamMount&) = delete;
  RamMount& operator=(const RamMount&) = delete;
  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
  bool ready_;
};

/// Reserves more 2 MiB pages than there are; gives them back with the object. Waits for other
/// tests that do the same, also of other programs: the setting itself is locked meanwhile.
class HugePages {
 public:
  explicit HugePages(uint64_t count);
  ~HugePages();
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;
  /// Whether the kernel found that many.
  [[nodiscard]] bool ready() const { return ready_; }

 private:
  int setting_;
  uint64_t before_ = 0;
  bool ready_ = false;
};

}  // namespace faultline::test
