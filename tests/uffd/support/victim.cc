#include "tests/uffd/support/victim.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>

namespace faultline::testing {

namespace {

std::string ProcPath(int pid, const char* file) {
  return "/proc/" + std::to_string(pid) + "/" + file;
}

}  // namespace

Victim::Victim(const std::function<int()>& body) : pid_(::fork()) {
  if (pid_ < 0) std::abort();
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::_exit(body());
}

Victim::~Victim() {
  if (reaped_) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Victim::Signal(int signal) const { ::kill(pid_, signal); }

int Victim::ExitStatus() {
  int status = 0;
  reaped_ = Eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; });
  if (!reaped_) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

bool Victim::AwaitAsleepIn(long number) const {
  return Eventually([&] {
    long in_call = -1;
    std::ifstream(ProcPath(pid_, "syscall")) >> in_call;
    return in_call == number;
  });
}

std::string Victim::StatusField(const std::string& name) const {
  std::ifstream file(ProcPath(pid_, "status"));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0)
      return line.substr(line.find_first_not_of("\t ", name.size() + 1));
  }
  return "";
}

bool Victim::AwaitStatus(const std::string& name, const std::string& value) const {
  return Eventually([&] { return StatusField(name).rfind(value, 0) == 0; });
}

int Victim::CountUserfaultFds() const {
  int count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(ProcPath(pid_, "fd"), error)) {
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    if (target.string() == "anon_inode:[userfaultfd]") ++count;
  }
  return count;
}

bool Eventually(const std::function<bool()>& condition, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace faultline::testing
