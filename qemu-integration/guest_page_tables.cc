#include "qemu-integration/guest_page_tables.h"

namespace faultline {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 0;
constexpr uint64_t kWritable = uint64_t{1} << 1;
constexpr uint64_t kAccessed = uint64_t{1} << 5;
constexpr uint64_t kLarge = uint64_t{1} << 7;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kAddressMask = 0x000f'ffff'ffff'f000;
constexpr uint64_t kPageBytes = 4096;

constexpr int kLargestLeafLevel = 3;  // 1 GiB

constexpr uint64_t BytesAt(int level) { return kPageBytes << (9 * (level - 1)); }
constexpr size_t IndexAt(uint64_t address, int level) {
  return (address / BytesAt(level)) % GuestPageTables::kEntries;
}
constexpr bool IsLeaf(uint64_t entry, int level) {
  return level == 1 || (level <= kLargestLeafLevel && (entry & kLarge) != 0);
}
constexpr bool IsUsed(uint64_t entry) {
  return (entry & kPresent) != 0 && (entry & kAccessed) != 0;
}
constexpr int LevelsOf(const VcpuRegisters& cpu) { return cpu.five_levels ? 5 : 4; }

}  // namespace

void GuestPageTables::Walk(const VcpuRegisters& cpu) {
  std::vector<GuestAddr> tables;
  List(GuestAddr(cpu.page_table_root), tables);
  for (int level = LevelsOf(cpu); level > 1; --level) tables = WalkLevel(tables, level);
}

std::vector<GuestAddr> GuestPageTables::WalkLevel(const std::vector<GuestAddr>& above, int level) {
  std::vector<GuestAddr> fresh;
  Table entries;
  for (const GuestAddr table : above) {
    if (!read_(table, entries)) continue;
    for (const uint64_t entry : entries) {
      if (IsUsed(entry) && !IsLeaf(entry, level)) List(GuestAddr(entry & kAddressMask), fresh);
    }
  }
  return fresh;
}

void GuestPageTables::List(GuestAddr table, std::vector<GuestAddr>& fresh) {
  if (tables_.size() == kTablesMax || !known_.insert(table.value()).second) return;
  tables_.push_back(table);
  fresh.push_back(table);
}

std::optional<uint64_t> GuestPageTables::EntryOf(GuestAddr table, int level, uint64_t address) {
  Remembered& last = last_[static_cast<size_t>(level - 1)];
  if (last.at != table) {
    last.at.reset();
    if (!read_(table, last.entries)) return std::nullopt;
    last.at = table;
  }
  return last.entries[IndexAt(address, level)];
}

std::optional<GuestPageTables::Mapping> GuestPageTables::MappingOf(const VcpuRegisters& cpu,
                                                                   uint64_t address) {
  GuestAddr at(cpu.page_table_root);
  Mapping mapping;
  mapping.writable = mapping.executable = true;
  for (int level = LevelsOf(cpu); level >= 1; --level) {
    const std::optional<uint64_t> entry = EntryOf(at, level, address);
    if (!entry || (*entry & kPresent) == 0) return std::nullopt;
    mapping.writable = mapping.writable && (*entry & kWritable) != 0;
    mapping.executable = mapping.executable && (*entry & kNoExecute) == 0;
    at = GuestAddr(*entry & kAddressMask);
    if (!IsLeaf(*entry, level)) continue;
    mapping.bytes = BytesAt(level);
    mapping.address = address / mapping.bytes * mapping.bytes;
    mapping.place = GuestAddr(at.value() / mapping.bytes * mapping.bytes);
    return mapping;
  }
  return std::nullopt;
}

std::optional<GuestAddr> GuestPageTables::Translate(const VcpuRegisters& cpu, uint64_t address) {
  const std::optional<Mapping> mapping = MappingOf(cpu, address);
  if (!mapping) return std::nullopt;
  return mapping->place + ByteCount(address - mapping->address);
}

}  // namespace faultline
