#include "uffd/ptrace_arch.h"

namespace faultline::ptrace_arch {

const char* WhyUnsupported() {
  return "attaching to a running VMM works on x86-64 only so far (see uffd/ptrace_arch.h)";
}

std::optional<size_t> FindCallInstruction(std::span<const std::byte>) { return std::nullopt; }
bool IsNative(const user_regs_struct&) { return false; }
void PrepareCall(user_regs_struct&, uint64_t, long, const std::array<uint64_t, 6>&) {}
int64_t CallResult(const user_regs_struct&) { return 0; }
void RestartWhatOnlyWeInterrupted(user_regs_struct&) {}
std::optional<uint64_t> InstructionOutsideCall(const user_regs_struct&) { return std::nullopt; }
void SetInstruction(user_regs_struct&, uint64_t) {}

}  // namespace faultline::ptrace_arch
