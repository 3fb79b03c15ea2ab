// What READs bring to the pool goes into the guest's RAM file: by a write on tmpfs, which fails
// where the file system is full; on hugetlbfs, which knows no write, through the alias, once there
// is memory behind it.
#pragma once

#include <cstring>

#include "rdma/landing_pool.h"
#include "uffd/guest_ram.h"

namespace faultline {

class FileSink final : public rdma::PageSink {
 public:
  /// `ram` outlives the sink.
  explicit FileSink(const GuestRam& ram) : ram_(ram) {}
  bool Write(PageRun run, std::span<const std::byte> bytes) override {
    if (ram_.FileOf(run).file_system() == RamFileSystem::kTmpfs) return ram_.Write(run, bytes);
    if (!ram_.PopulateWrite(run).has_value()) return false;
    std::memcpy(ram_.window().BytesOf(run).data(), bytes.data(), bytes.size());
    return true;
  }

 private:
  const GuestRam& ram_;
};

}  // namespace faultline
