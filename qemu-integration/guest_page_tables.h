// A walk over a running guest's x86-64 page tables: which tables its processors use, and where an
// address leads. Entries are as in the Intel SDM, volume 3A, chapter 4.5; `accessed` is set by the
// processor that has used an entry.
//
// The guest runs meanwhile and changes them. So everything read is a guess, every number in it is
// checked, and the walk is bounded by what it has listed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_set>
#include <vector>

#include "engine/core/units.h"
#include "qemu-integration/vcpu_registers.h"

namespace faultline {

class GuestPageTables {
 public:
  static constexpr size_t kEntries = 512;
  static constexpr size_t kTablesMax = 1024;  ///< 4 MiB of them, enough for 2 GiB in small pages

  using Table = std::array<uint64_t, kEntries>;
  /// Reads the table at an address; false: it is not in guest RAM.
  using ReadTable = std::function<bool(GuestAddr, Table&)>;

  /// What one entry of the last level maps.
  struct Mapping {
    uint64_t address = 0;  ///< virtual, of its first byte
    uint64_t bytes = 0;
    GuestAddr place;
    bool writable = false;
    bool executable = false;
  };

  explicit GuestPageTables(ReadTable read) : read_(std::move(read)) {}

  /// Lists the tables that the processor uses, the upper levels first; what is listed already is
  /// not walked again.
  void Walk(const VcpuRegisters& cpu);
  /// What a virtual address is part of.
  [[nodiscard]] std::optional<Mapping> MappingOf(const VcpuRegisters& cpu, uint64_t address);
  /// Where a virtual address leads.
  [[nodiscard]] std::optional<GuestAddr> Translate(const VcpuRegisters& cpu, uint64_t address);
  /// Reads the page at an address as a table, also one that is not a page table.
  bool Read(GuestAddr table, Table& out) const { return read_(table, out); }

  /// Pages that are page tables in use.
  [[nodiscard]] const std::vector<GuestAddr>& tables() const { return tables_; }

 private:
  /// The tables that `above`, of `level`, lead to.
  std::vector<GuestAddr> WalkLevel(const std::vector<GuestAddr>& above, int level);
  void List(GuestAddr table, std::vector<GuestAddr>& fresh);
  std::optional<uint64_t> EntryOf(GuestAddr table, int level, uint64_t address);

  static constexpr size_t kLevels = 5;
  struct Remembered {
    std::optional<GuestAddr> at;
    Table entries;
  };

  ReadTable read_;
  std::array<Remembered, kLevels> last_;  ///< of each level: neighbours share them
  std::unordered_set<uint64_t> known_;
  std::vector<GuestAddr> tables_;
};

}  // namespace faultline
