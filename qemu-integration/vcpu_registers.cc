#include "qemu-integration/vcpu_registers.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace faultline {
namespace {

constexpr uint64_t kPagingOn = uint64_t{1} << 31;      // CR0.PG
constexpr uint64_t kFiveLevels = uint64_t{1} << 12;    // CR4.LA57
constexpr uint64_t kLongMode = uint64_t{1} << 10;      // EFER.LMA
constexpr uint64_t kRootMask = 0x000f'ffff'ffff'f000;  // CR3 without PCID and flags

/// The number behind `name`, and behind `skipped` more words ("GS =0033 BASE LIMIT FLAGS").
std::optional<uint64_t> Value(std::string_view cpu, std::string_view name, int skipped = 0) {
  const size_t at = cpu.find(name);
  if (at == std::string_view::npos) return std::nullopt;
  cpu.remove_prefix(at + name.size());
  cpu.remove_prefix(std::min(cpu.find_first_not_of(' '), cpu.size()));
  for (; skipped > 0; --skipped) {
    cpu.remove_prefix(std::min(cpu.find(' '), cpu.size()));
    cpu.remove_prefix(std::min(cpu.find_first_not_of(' '), cpu.size()));
  }
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(cpu.data(), cpu.data() + cpu.size(), value, 16);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<VcpuRegisters> ParseCpu(std::string_view cpu) {
  const uint64_t cr4 = Value(cpu, "CR4=").value_or(0);
  const auto root = Value(cpu, "CR3=");
  const bool paging = (Value(cpu, "CR0=").value_or(0) & kPagingOn) != 0;
  const bool long_mode = (Value(cpu, "EFER=").value_or(0) & kLongMode) != 0;
  if (!root || !paging || !long_mode) return std::nullopt;
  return VcpuRegisters{.page_table_root = *root & kRootMask,
                       .five_levels = (cr4 & kFiveLevels) != 0,
                       .instruction = Value(cpu, "RIP=").value_or(0),
                       .stack = Value(cpu, "RSP=").value_or(0),
                       .fs = Value(cpu, "\nFS =", 1).value_or(0),
                       .gs = Value(cpu, "\nGS =", 1).value_or(0),
                       .task_state = Value(cpu, "\nTR =", 1).value_or(0),
                       .descriptors = Value(cpu, "\nGDT=").value_or(0),
                       .interrupts = Value(cpu, "\nIDT=").value_or(0)};
}

}  // namespace

std::vector<VcpuRegisters> ParseRegisters(std::string_view text) {
  constexpr std::string_view kNext = "CPU#";
  std::vector<VcpuRegisters> all;
  while (!text.empty() && all.size() < kVcpusMax) {
    const size_t next = std::min(text.find(kNext, kNext.size()), text.size());
    if (const auto cpu = ParseCpu(text.substr(0, next))) all.push_back(*cpu);
    text.remove_prefix(next);
  }
  return all;
}

}  // namespace faultline
