// A guest without a VM: a process that maps shared files as a VMM does, whose threads touch pages
// at random and note how long each touch took and whether the page held what it should.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/core/vm.h"
#include "perf/rig/child.h"
#include "uffd/unique_fd.h"

namespace faultline::rig {

struct GuestPlan {
  uint64_t bytes = uint64_t{256} << 20;  ///< a power of two
  uint32_t threads = 1;
  uint64_t touches = 8192;  ///< of all threads together, each of another page
  uint64_t seed = 1;
  std::optional<int> cpu{};  ///< all threads stay there
  bool filled = false;       ///< the files hold every page from the start
  bool huge = false;         ///< the files lie on a tmpfs that gives huge pages
};

/// A file of shared memory; `filled`: every page has memory and its word. `huge`: huge_tmpfs.h.
UniqueFd MakeRamFile(uint64_t bytes, bool filled, bool huge = false);

/// The regions of a guest, in the engine's words. `bases`: where they are mapped.
VmDescription DescribeGuest(int pid, uint64_t bytes, const std::vector<void*>& bases);

class NativeGuest {
 public:
  /// Forks. REQUIRES: the caller has one thread.
  explicit NativeGuest(const GuestPlan& plan);

  [[nodiscard]] int pid() const { return process_->pid(); }
  [[nodiscard]] VmDescription Description() const;
  /// The threads begin.
  void Go() { control_->go.store(true); }
  [[nodiscard]] bool finished() const { return control_->finished.load() == plan_.threads; }
  void AwaitFinished() const;
  /// Touches that found something else than the page's word. Zero, or the engine is wrong.
  [[nodiscard]] uint64_t wrong() const { return control_->wrong.load(); }
  /// How long each touch took, ns.
  [[nodiscard]] std::vector<uint32_t> Latencies() const;

 private:
  struct Control {
    std::atomic<bool> go{false};
    std::atomic<uint32_t> finished{0};
    std::atomic<uint64_t> wrong{0};
  };
  void Run() const;
  void RunThread(uint32_t thread) const;

  const GuestPlan plan_;
  std::vector<UniqueFd> files_;
  std::vector<void*> bases_;
  SharedArray<Control> control_{1};
  SharedArray<uint32_t> latencies_;
  std::unique_ptr<Child> process_;  ///< last: it has a copy of all of the above
};

}  // namespace faultline::rig
