#include "tests/native/call_tracer.h"

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

namespace faultline::test {
namespace {

constexpr int kCallStop = SIGTRAP | 0x80;  // PTRACE_O_TRACESYSGOOD

bool AwaitStop(pid_t thread, int& status) {
  return ::waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status);
}

}  // namespace

uint64_t CallCounts::all() const {
  return std::accumulate(calls.begin(), calls.end(), uint64_t{0});
}

uint64_t CallCounts::all_in_vain() const {
  return std::accumulate(vain.begin(), vain.end(), uint64_t{0});
}

std::string CallCounts::OthersThan(std::initializer_list<long> numbers) const {
  CallCounts rest = *this;
  for (const long number : numbers) {
    rest.calls[static_cast<size_t>(number)] = 0;
    rest.vain[static_cast<size_t>(number)] = 0;
  }
  std::string others;
  for (size_t number = 0; number < kNumbers; ++number) {
    const uint64_t times = rest.calls[number] + rest.vain[number];
    if (times == 0) continue;
    others += "call " + std::to_string(number) + ": " + std::to_string(times) + " times; ";
  }
  return others;
}

CallTracer::CallTracer(pid_t thread) {
  child_ = std::make_unique<rig::Child>([this, thread] { Follow(thread, *shared_.operator->()); });
  while (!shared_->follows.load()) ::usleep(100);
}

/// In the child; ends by being killed, which lets the thread go on.
void CallTracer::Follow(pid_t thread, Shared& shared) {
  int status = 0;
  if (::ptrace(PTRACE_SEIZE, thread, nullptr, PTRACE_O_TRACESYSGOOD) != 0) ::_exit(1);
  ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
  size_t number = CallCounts::kNumbers;
  shared.follows.store(true);
  while (AwaitStop(thread, status)) {
    if (WSTOPSIG(status) == kCallStop) {
      struct __ptrace_syscall_info info{};
      ::ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
      if (info.op == PTRACE_SYSCALL_INFO_ENTRY) number = info.entry.nr;
      if (info.op == PTRACE_SYSCALL_INFO_EXIT && number < CallCounts::kNumbers) {
        auto& counts = shared.counts;
        ++(info.exit.rval == -EAGAIN ? counts.vain : counts.calls)[number];
      }
    }
    ::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr);
  }
}

CallCounts CallTracer::Stop() {
  child_->Kill();
  return shared_->counts;
}

pid_t ThreadNamed(std::string_view beginning) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.substr(0, beginning.size()) == beginning) return std::stoi(task.path().filename());
  }
  return 0;
}

}  // namespace faultline::test
