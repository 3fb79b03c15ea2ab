// A guest inside the test's own process: its RAM is mapped here as a VMM would, registered with a
// userfaultfd, and reached a second time through the alias. Threads of the test are its vCPUs.
#pragma once

#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <vector>

#include "engine/core/geometry.h"
#include "tests/uffd/support/backing.h"
#include "uffd/guest_ram.h"
#include "uffd/uffd_fault_source.h"
#include "uffd/uffd_placer.h"
#include "uffd/userfault_fd.h"

namespace faultline::testing {

struct RegionPlan {
  BackingKind kind = BackingKind::kTmpfs;
  uint64_t pages = 64;
  uint64_t file_offset_pages = 0;
};

/// An mmap of the test, unmapped at the end.
class GuestMapping {
 public:
  GuestMapping(int fd, ByteCount length, ByteCount offset, int flags);
  GuestMapping(GuestMapping&& other) noexcept;
  GuestMapping& operator=(GuestMapping&&) = delete;
  ~GuestMapping();
  [[nodiscard]] std::byte* bytes() const { return bytes_; }

 private:
  std::byte* bytes_;
  size_t length_;
};

/// RAM of a VM that lies in this process: files, mappings and their description.
class OwnMemory {
 public:
  explicit OwnMemory(const std::vector<RegionPlan>& plans);

  [[nodiscard]] const Geometry& geometry() const { return *geometry_; }
  [[nodiscard]] const VmDescription& vm() const { return vm_; }
  [[nodiscard]] const VmmMap& map() const { return *map_; }
  [[nodiscard]] int file(size_t region) const { return files_[region].get(); }
  /// The page as the guest sees it. Loading from it may fault.
  [[nodiscard]] std::byte* At(PageIndex page) const;
  [[nodiscard]] PageRun All(size_t region = 0) const { return geometry_->pages_of(region); }

 private:
  HugePagePool pool_;
  std::vector<UniqueFd> files_;
  std::vector<GuestMapping> mappings_;
  VmDescription vm_;
  std::unique_ptr<Geometry> geometry_;
  std::unique_ptr<VmmMap> map_;
};

/// OwnMemory with a userfaultfd on all of it, the alias, a fault source and a placer.
class OwnGuest : public OwnMemory {
 public:
  explicit OwnGuest(const std::vector<RegionPlan>& plans);

  UserfaultFd uffd;
  GuestRam ram;
  UffdFaultSource source;
  UffdPlacer placer;

  /// Fills a page of the alias, as landing bytes do.
  void Land(PageIndex page, int value) const;
  /// A vCPU that loads the first byte of a page; ready once that is done.
  [[nodiscard]] std::future<int> Load(PageIndex page) const;
  /// The next batch that is not empty; fails the test after a while.
  FaultBatch NextBatch();
  /// Waits until a fault on the page is asleep and its message read.
  void AwaitFaultOn(PageIndex page);
};

/// True if the future is not ready for a while: its thread sleeps.
template <class T>
bool StaysAsleep(const std::future<T>& load) {
  return load.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout;
}
/// The value; a test that hangs here is stopped by its time limit.
int ValueOf(std::future<int>& load);

}  // namespace faultline::testing
