#include "uffd/huge_collapse.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>
#include <thread>

#include "uffd/proc_maps.h"
#include "uffd/system_error.h"

namespace faultline {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMadviseCollapse = 25;  // Linux 6.1, <asm-generic/mman-common.h>
constexpr uint64_t kBytes = kHugePageBytes.value();
/// So many pieces in a row without memory for them: it is fragmented, and each attempt compacts.
constexpr int kNoMemoryMax = 8;

enum class Outcome : uint8_t {
  kHuge = 1,
  kBusy,      ///< pinned or locked for the moment
  kNoMemory,  ///< no huge page to be had
  kUnfit,     ///< the kernel will not here: unmapped, discouraged by the VMM
  kCannot,    ///< the process has ended, or the kernel or our rights do not know the call
};

Outcome OutcomeOf(int error_number) {
  switch (error_number) {
    case EAGAIN:
    case EBUSY:  // the memory cgroup is full
      return Outcome::kBusy;
    case ENOMEM:
      return Outcome::kNoMemory;
    case EINVAL:
      return Outcome::kUnfit;
    default:
      return Outcome::kCannot;
  }
}

Outcome CollapsePiece(int pidfd, VmmAddr piece) {
  const iovec range{reinterpret_cast<void*>(piece.value()), kBytes};
  const long done = ::syscall(SYS_process_madvise, pidfd, &range, 1, kMadviseCollapse, 0);
  return done == static_cast<long>(kBytes) ? Outcome::kHuge : OutcomeOf(errno);
}

/// smaps: a line as in maps, then lines "Name:   value" of that mapping.
bool OpensMapping(const std::string& line) {
  return !line.empty() && line.find(':') > line.find(' ');
}

/// A pass over some pieces: what came of it, and the time it may take.
class Pass {
 public:
  Pass(int pidfd, const HugeCollapse::Limits& limits, const std::function<bool()>& stop)
      : pidfd_(pidfd), limits_(limits), stop_(stop), start_(Clock::now()) {}

  /// Returns the pieces that are worth another attempt.
  std::vector<VmmAddr> Over(const std::vector<VmmAddr>& pieces) {
    std::vector<VmmAddr> busy;
    for (const VmmAddr piece : pieces) {
      if (ended_ || stop_() || Elapsed() > limits_.total_max) break;
      if (Try(piece) == Outcome::kBusy) busy.push_back(piece);
    }
    return busy;
  }
  [[nodiscard]] Nanos Elapsed() const { return Clock::now() - start_; }
  [[nodiscard]] ByteCount huge() const { return huge_; }
  [[nodiscard]] Nanos longest() const { return longest_; }

 private:
  Outcome Try(VmmAddr piece) {
    const Clock::time_point begin = Clock::now();
    const Outcome outcome = CollapsePiece(pidfd_, piece);
    const Nanos took = Clock::now() - begin;
    longest_ = std::max(longest_, took);
    no_memory_ = outcome == Outcome::kNoMemory ? no_memory_ + 1 : 0;
    ended_ = outcome == Outcome::kCannot || no_memory_ == kNoMemoryMax;
    if (outcome == Outcome::kHuge) huge_ += kHugePageBytes;
    std::this_thread::sleep_for(
        std::clamp(took * limits_.pause_ratio, limits_.pause_min, limits_.pause_max));
    return outcome;
  }

  const int pidfd_;
  const HugeCollapse::Limits limits_;
  const std::function<bool()>& stop_;
  const Clock::time_point start_;
  ByteCount huge_;
  Nanos longest_{};
  int no_memory_ = 0;
  bool ended_ = false;
};

}  // namespace

Result<std::vector<size_t>> RegionsForHugePages(const VmDescription& vm) {
  const std::string path = fmt::format("/proc/{}/smaps", vm.pid);
  std::ifstream file(path);
  if (!file) return SystemFailure(fmt::format("read {}", path), errno);
  std::vector<size_t> regions;
  ProcMapping mapping;
  for (std::string line; std::getline(file, line);) {
    if (OpensMapping(line)) {
      FAULTLINE_ASSIGN(mapping, ParseProcMapsLine(line));
    } else if (line.rfind("THPeligible:", 0) == 0 && line.back() == '1') {
      for (size_t i = 0; i < vm.regions.size(); ++i) {
        const VmmAddr base = vm.regions[i].base;
        if (mapping.start <= base && base < mapping.end) regions.push_back(i);
      }
    }
  }
  return regions;
}

std::vector<VmmAddr> PiecesWorthCollapsing(VmmAddr base, ByteCount length,
                                           std::span<const ByteExtent> data) {
  // From the first address that a huge page can be at, in bytes behind `base`.
  const uint64_t first = (kBytes - base.value() % kBytes) % kBytes;
  if (length.value() < first + kBytes) return {};
  std::vector<uint64_t> filled((length.value() - first) / kBytes);
  for (const ByteExtent& extent : data) {
    const uint64_t end = (extent.offset + extent.length).value();
    uint64_t at = std::max(extent.offset.value(), first);
    while (at < end && (at - first) / kBytes < filled.size()) {
      const uint64_t piece = (at - first) / kBytes;
      const uint64_t stop = std::min(end, first + (piece + 1) * kBytes);
      filled[piece] += stop - at;
      at = stop;
    }
  }
  std::vector<VmmAddr> pieces;
  for (size_t piece = 0; piece < filled.size(); ++piece) {
    if (filled[piece] < kBytes / 8 * 7) continue;
    pieces.push_back(base + ByteCount(first + piece * kBytes));
  }
  return pieces;
}

std::vector<VmmAddr> HugeCollapse::Pieces() const {
  std::vector<VmmAddr> pieces;
  for (const size_t region : regions_) {
    const RamFile& file = ram_.file(region);
    std::vector<ByteExtent> data;
    const Status visited = file.VisitData([&](ByteExtent extent) { data.push_back(extent); });
    if (!visited.has_value()) continue;
    const std::vector<VmmAddr> found =
        PiecesWorthCollapsing(file.region().base, file.region().shape.length, data);
    pieces.insert(pieces.end(), found.begin(), found.end());
  }
  return pieces;
}

CollapseReport HugeCollapse::Run(const Limits& limits, const std::function<bool()>& stop) const {
  const std::vector<VmmAddr> pieces = Pieces();
  Pass pass(process_.pidfd(), limits, stop);
  // Twice: what was pinned for a read from a disk is free a moment later.
  static_cast<void>(pass.Over(pass.Over(pieces)));
  return {.huge = pass.huge(),
          .left = ByteCount(pieces.size() * kBytes) - pass.huge(),
          .took = pass.Elapsed(),
          .longest = pass.longest()};
}

}  // namespace faultline
