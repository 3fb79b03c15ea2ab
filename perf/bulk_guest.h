// A guest without a VM: a process that maps a tmpfs file and touches it at native speed.
//
// It takes the time of every first touch. Those that had to wait for somebody are told from those
// that the kernel settled alone by kWait: that takes a few µs, a userfaultfd ten and more.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>

#include "engine/core/metrics.h"
#include "engine/core/result.h"
#include "engine/core/vm.h"
#include "uffd/unique_fd.h"

namespace faultline::bulk {

class BulkGuest {
 public:
  static constexpr Nanos kWait{10'000};
  struct Load {
    bool touches = false;
    Nanos pause{0};  ///< between two touches
  };

  /// `bytes`: a power of two. The process starts at once and touches nothing before Go().
  /// Forks: before the caller has threads.
  static Result<std::unique_ptr<BulkGuest>> Create(ByteCount bytes, Load load);
  BulkGuest(const BulkGuest&) = delete;
  BulkGuest& operator=(const BulkGuest&) = delete;
  ~BulkGuest();

  [[nodiscard]] VmDescription description() const;
  [[nodiscard]] int file() const { return file_.get(); }
  [[nodiscard]] VmmAddr base() const { return VmmAddr(reinterpret_cast<uint64_t>(memory_)); }
  void Go() { shared_->go.store(true); }
  /// Returns when the process touches nothing any more.
  void Stop();
  /// First touches that waited. Exact after Stop.
  [[nodiscard]] const LatencyHistogram& waits() const { return shared_->waits; }

 private:
  struct Shared {
    std::atomic<bool> go{false};
    std::atomic<bool> stop{false};
    LatencyHistogram waits;
  };

  BulkGuest(UniqueFd file, std::byte* memory, ByteCount bytes, Load load, Shared* shared);
  void Run();

  UniqueFd file_;
  std::byte* const memory_;
  const ByteCount bytes_;
  const Load load_;
  Shared* const shared_;  ///< both processes'
  pid_t pid_ = -1;
};

}  // namespace faultline::bulk
