#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "uffd/ptrace_arch.h"

#ifndef __x86_64__
#error "ptrace_x86_64.cc is for x86-64; CMake takes ptrace_unsupported.cc elsewhere"
#endif

namespace faultline::ptrace_arch {

namespace {

constexpr uint64_t kUserCode64 = 0x33;  // __USER_CS
constexpr uint64_t kNoCall = ~uint64_t{0};

// include/linux/errno.h, inside the kernel: "restart if no handler ran, else EINTR". It never
// reaches a program: on the way back to user mode arch_do_signal_or_restart() acts on it.
constexpr int64_t kErestartNoHand = 514;

// Calls that return EINTR when their thread is stopped, although no handler has run, and that
// have done nothing then: waits, and reads and accepts (with SO_RCVTIMEO, or of inotify).
constexpr auto kAnswerStopWithEintr = std::to_array<uint64_t>(
    {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait, SYS_semop,
     SYS_semtimedop, SYS_msgrcv, SYS_io_getevents, SYS_io_pgetevents, SYS_io_uring_enter, SYS_read,
     SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_accept, SYS_accept4});

}  // namespace

const char* WhyUnsupported() { return nullptr; }

std::optional<size_t> FindCallInstruction(std::span<const std::byte> code) {
  constexpr std::array<std::byte, 2> kSyscall{std::byte{0x0f}, std::byte{0x05}};
  const auto found = std::search(code.begin(), code.end(), kSyscall.begin(), kSyscall.end());
  if (found == code.end()) return std::nullopt;
  return static_cast<size_t>(found - code.begin());
}

bool IsNative(const user_regs_struct& registers) { return registers.cs == kUserCode64; }

void PrepareCall(user_regs_struct& registers, uint64_t instruction, long number,
                 const std::array<uint64_t, 6>& arguments) {
  registers.rip = instruction;
  registers.rax = static_cast<uint64_t>(number);
  registers.orig_rax = kNoCall;
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
}

int64_t CallResult(const user_regs_struct& registers) {
  return static_cast<int64_t>(registers.rax);
}

void RestartWhatOnlyWeInterrupted(user_regs_struct& registers) {
  if (static_cast<int64_t>(registers.rax) != -EINTR) return;
  const bool listed = std::find(kAnswerStopWithEintr.begin(), kAnswerStopWithEintr.end(),
                                registers.orig_rax) != kAnswerStopWithEintr.end();
  if (listed) registers.rax = static_cast<uint64_t>(-kErestartNoHand);
}

std::optional<uint64_t> InstructionOutsideCall(const user_regs_struct& registers) {
  if (registers.orig_rax != kNoCall) return std::nullopt;
  return registers.rip;
}

void SetInstruction(user_regs_struct& registers, uint64_t instruction) {
  registers.rip = instruction;
}

}  // namespace faultline::ptrace_arch
