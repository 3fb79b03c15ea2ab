#include "qemu-integration/first_places.h"

#include <optional>
#include <span>

#include "qemu-integration/guest_page_tables.h"
#include "qemu-integration/kernel_image.h"

namespace faultline {
namespace {

constexpr uint64_t kPageBytes = 4096;
/// A kernel's own data of one processor lie around the memory of its task state segment.
constexpr uint64_t kOwnDataBytes = uint64_t{256} << 10;
/// Upwards from the stack pointer: who called.
constexpr uint64_t kStackPages = 4;
/// A PC's shadow of option ROMs: QEMU's kvmvapic looks there when it is loaded.
constexpr GuestRange kOptionRoms{GuestAddr(0xc'0000), ByteCount(0x8000)};
/// Processors whose surroundings are looked at; page tables are shared by all.
constexpr size_t kSurroundingsMax = 64;

class Finder {
 public:
  Finder(const GuestLayout& layout, const ReadRam& read)
      : layout_(layout), tables_([&layout, &read](GuestAddr at, GuestPageTables::Table& table) {
          const std::optional<RamPlace> place = layout.PlaceOf(at);
          return place && read(*place, std::as_writable_bytes(std::span(table)));
        }) {}

  void Walk(const VcpuRegisters& cpu) { tables_.Walk(cpu); }

  void LookAround(const VcpuRegisters& cpu) {
    for (const uint64_t address :
         {cpu.instruction, cpu.interrupts, cpu.descriptors, cpu.gs, cpu.fs, cpu.task_state,
          cpu.task_state - kPageBytes, cpu.task_state + kPageBytes}) {
      AddVirtual(cpu, address);
    }
    for (uint64_t page = 0; page < kStackPages; ++page) {
      AddVirtual(cpu, cpu.stack + page * kPageBytes);
    }
    AddOwnData(cpu);
  }

  /// All processors run the same kernel, but one that is not in it may show little of it.
  void LookForKernel(const VcpuRegisters& cpu) {
    std::vector<GuestRange> image = FindKernelImage(cpu, tables_);
    if (LengthOf(image) > LengthOf(kernel_)) kernel_ = std::move(image);
  }

  void AddFirmware() { AddLasting(kOptionRoms); }

  FirstPlaces Take() {
    for (const GuestRange& range : kernel_) AddLasting(range);
    for (const GuestAddr table : tables_.tables()) Add(table);
    return std::move(found_);
  }

 private:
  static ByteCount LengthOf(const std::vector<GuestRange>& ranges) {
    ByteCount length;
    for (const GuestRange& range : ranges) length += range.length;
    return length;
  }
  void AddLasting(const GuestRange& range) {
    for (ByteCount offset; offset < range.length; offset += ByteCount(kPageBytes)) {
      const auto place = layout_.PlaceOf(range.start + offset);
      if (place) found_.lasting.push_back(*place);
    }
  }
  void Add(GuestAddr address) {
    if (const auto place = layout_.PlaceOf(address)) found_.changing.push_back(*place);
  }
  void AddVirtual(const VcpuRegisters& cpu, uint64_t address) {
    if (address == 0) return;
    if (const auto at = tables_.Translate(cpu, address)) Add(*at);
  }
  void AddOwnData(const VcpuRegisters& cpu) {
    const auto task_state = tables_.Translate(cpu, cpu.task_state);
    if (!task_state) return;
    const uint64_t first = task_state->value() / kOwnDataBytes * kOwnDataBytes;
    for (uint64_t at = first; at < first + kOwnDataBytes; at += kPageBytes) {
      Add(GuestAddr(at));
    }
  }

  const GuestLayout& layout_;
  GuestPageTables tables_;
  std::vector<GuestRange> kernel_;
  FirstPlaces found_;
};

}  // namespace

FirstPlaces FindFirstPlaces(const std::vector<VcpuRegisters>& cpus, const GuestLayout& layout,
                            const ReadRam& read) {
  Finder finder(layout, read);
  for (const VcpuRegisters& cpu : cpus) finder.Walk(cpu);
  for (size_t i = 0; i < cpus.size() && i < kSurroundingsMax; ++i) {
    finder.LookAround(cpus[i]);
    finder.LookForKernel(cpus[i]);
  }
  finder.AddFirmware();
  return finder.Take();
}

}  // namespace faultline
