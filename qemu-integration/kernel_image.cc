#include "qemu-integration/kernel_image.h"

#include <algorithm>
#include <optional>

namespace faultline {
namespace {

using Mapping = GuestPageTables::Mapping;

/// Of the interrupt descriptor table (Intel SDM, volume 3A, chapter 6.14.1).
constexpr size_t kPageFaultVector = 14;
constexpr uint64_t kGatePresent = uint64_t{1} << 47;
/// Between code and the data that is written lie constants, and what only the start needed.
constexpr uint64_t kConstantBytesMax = uint64_t{32} << 20;
constexpr uint64_t kPageBytes = 4096;

class ImageWalk {
 public:
  ImageWalk(const VcpuRegisters& cpu, GuestPageTables& tables) : cpu_(cpu), tables_(tables) {}

  /// Where the processor goes on when a page of the guest is missing.
  std::optional<uint64_t> FaultHandler() {
    const auto place = tables_.Translate(cpu_, cpu_.interrupts);
    GuestPageTables::Table gates;
    if (!place || place->value() % kPageBytes != 0 || !tables_.Read(*place, gates)) return {};
    const uint64_t low = gates[2 * kPageFaultVector];
    const uint64_t high = gates[2 * kPageFaultVector + 1];
    if ((low & kGatePresent) == 0) return {};
    return (low & 0xffff) | (low >> 48 << 16) | (high << 32);
  }

  /// The lowest address from which on all is code up to `inside`.
  uint64_t StartOfCode(uint64_t inside) {
    uint64_t start = inside;
    const uint64_t lowest = inside - std::min(inside, kKernelCodeMax.value() / 2);
    for (auto code = At(inside); code && code->executable && start > lowest; code = At(start - 1)) {
      start = code->address;
    }
    return start;
  }

  /// From `at` on, as long as it is code. Returns its end.
  uint64_t TakeCode(uint64_t at) {
    ByteCount room = kKernelCodeMax;
    for (auto code = At(at); code && code->executable && Take(*code, room); code = At(at)) {
      at = code->address + code->bytes;
    }
    return at;
  }

  /// What may be written, not far behind `at`.
  void TakeData(uint64_t at) {
    ByteCount room = kKernelDataMax;
    const uint64_t end = at + kConstantBytesMax;
    while (at < end) {
      const auto data = At(at);
      if (data && data->writable && !Take(*data, room)) return;
      at = data ? data->address + data->bytes : at + kPageBytes;
    }
  }

  std::vector<GuestRange> found() && { return std::move(found_); }

 private:
  std::optional<Mapping> At(uint64_t address) { return tables_.MappingOf(cpu_, address); }

  /// False: there is no room for it.
  bool Take(const Mapping& mapping, ByteCount& room) {
    const ByteCount length(mapping.bytes);
    if (length > room) return false;
    room -= length;
    found_.push_back({mapping.place, length});
    return true;
  }

  const VcpuRegisters& cpu_;
  GuestPageTables& tables_;
  std::vector<GuestRange> found_;
};

}  // namespace

std::vector<GuestRange> FindKernelImage(const VcpuRegisters& cpu, GuestPageTables& tables) {
  ImageWalk walk(cpu, tables);
  const std::optional<uint64_t> handler = walk.FaultHandler();
  if (!handler) return {};
  const uint64_t code_end = walk.TakeCode(walk.StartOfCode(*handler));
  walk.TakeData(code_end);
  return std::move(walk).found();
}

}  // namespace faultline
