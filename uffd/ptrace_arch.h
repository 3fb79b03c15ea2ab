// What the injector needs to know of a processor. One file implements it for each:
// ptrace_x86_64.cc, and ptrace_unsupported.cc, which refuses.
//
// All functions but FindCallInstruction run between fork and exit: async-signal-safe.
#pragma once

#include <sys/user.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace faultline::ptrace_arch {

/// Nullptr if this processor is supported, else what to tell the operator.
const char* WhyUnsupported();

/// Where in `code` an instruction that makes a system call begins.
std::optional<size_t> FindCallInstruction(std::span<const std::byte> code);

/// The thread runs code of our own kind (not a 32-bit program).
bool IsNative(const user_regs_struct& registers);
/// Makes the thread's next instruction the call, and its stop no interrupted call.
void PrepareCall(user_regs_struct& registers, uint64_t instruction, long number,
                 const std::array<uint64_t, 6>& arguments);
int64_t CallResult(const user_regs_struct& registers);

/// Some calls answer a mere stop with EINTR (signal(7), "epoll_wait … after SIGCONT"). If
/// `registers` show one of those, the kernel is told to make the call again unless a signal
/// handler really runs.
void RestartWhatOnlyWeInterrupted(user_regs_struct& registers);

/// The instruction to go on with, outside of any system call; nothing inside of one.
std::optional<uint64_t> InstructionOutsideCall(const user_regs_struct& registers);
void SetInstruction(user_regs_struct& registers, uint64_t instruction);

}  // namespace faultline::ptrace_arch
