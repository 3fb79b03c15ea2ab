#include "tests/qemu/qemu_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

namespace faultline::test {

namespace {

using std::chrono::milliseconds;
constexpr int kStartAttempts = 400;
constexpr milliseconds kStartPause{25};

int NextNumber() {
  static std::atomic<int> number{0};
  return ++number;
}

/// A bound socket has a name before it listens; the flag tells the two apart (__SO_ACCEPTCON).
bool ListensAlready(const std::string& path) {
  std::ifstream table("/proc/net/unix");
  for (std::string line; std::getline(table, line);) {
    if (line.find(" 00010000 ") != std::string::npos && line.find(path) != std::string::npos) {
      return true;
    }
  }
  return false;
}

[[noreturn]] void BecomeQemu(const std::vector<std::string>& arguments, const std::string& log) {
  // Whatever happens to the test, its QEMU ends with it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  dup2(file, STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  _exit(127);
}

std::string Output(const std::string& command) {
  std::string text;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::array<char, 512> buffer;
  while (pipe && fgets(buffer.data(), buffer.size(), pipe.get())) text += buffer.data();
  return text.substr(0, text.find('\n'));
}

/// `code` at f000:0000, and a jump to it at f000:fff0, where the CPU starts.
std::string WriteBios(const TemporaryFolder& folder, const std::vector<unsigned char>& code) {
  std::string image(65536, '\0');
  const unsigned char reset[] = {0xEA, 0x00, 0x00, 0x00, 0xF0};
  std::memcpy(image.data(), code.data(), code.size());
  std::memcpy(image.data() + 0xFFF0, reset, sizeof reset);
  const std::string path = fmt::format("{}/bios-{}.bin", folder.path(), NextNumber());
  std::ofstream(path, std::ios::binary) << image;
  return path;
}

}  // namespace

TemporaryFolder::TemporaryFolder(const std::string& parent)
    : path_(fmt::format("{}/faultline-test-{}-{}", parent, getpid(), NextNumber())) {
  std::filesystem::create_directories(path_);
  // A QEMU of another user connects here, too.
  std::filesystem::permissions(path_, std::filesystem::perms::all);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

RamFile::RamFile(const std::string& folder)
    : path_(fmt::format("{}/faultline-test-{}-{}", folder, getpid(), NextNumber())) {}

RamFile::RamFile(RamFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}

RamFile::~RamFile() {
  if (!path_.empty()) unlink(path_.c_str());
}

std::string QemuBinary(const std::string& version) {
  if (version == "7.2") {
    constexpr const char* kSystem = "/usr/bin/qemu-system-x86_64";
    return access(kSystem, X_OK) == 0 ? kSystem : "";
  }
  static const std::string ten =
      Output(FAULTLINE_SOURCE_DIR "/qemu-integration/provision/qemu10 2>/dev/null");
  return ten;
}

std::string WriteCountingBios(const TemporaryFolder& folder) {
  // xor ax,ax; mov ds,ax; again: inc dword [0x8000]; jmp again
  return WriteBios(folder, {0x31, 0xC0, 0x8E, 0xD8, 0x66, 0xFF, 0x06, 0x00, 0x80, 0xEB, 0xF9});
}

std::string WriteDrawingBios(const TemporaryFolder& folder) {
  return WriteBios(folder, {
                               0x31, 0xC0, 0x8E, 0xD8,                    // ds = 0
                               0xBA, 0xC4, 0x03, 0xB8, 0x02, 0x0F, 0xEF,  // write to all planes
                               0xBA, 0xCE, 0x03, 0xB8, 0x08, 0xFF, 0xEF,  // all bits of each
                               0xB9, 0x00, 0xA0, 0x8E, 0xC1,              // es = a000
                               0x66, 0xFF, 0x06, 0x00, 0x80,  // again: inc dword [0x8000]
                               0x31, 0xFF,                    // xor di,di
                               0xB9, 0x00, 0x80,              // mov cx,0x8000
                               0xF3, 0xAB,                    // rep stosw
                               0xEB, 0xF2,                    // jmp again
                           });
}

QemuProcess::QemuProcess(const std::string& binary, std::vector<std::string> arguments)
    : qmp_path_(folder_.path() + "/qmp") {
  arguments.insert(arguments.begin(), binary);
  // A small translation buffer: mem-lock=on would populate the whole GiB that is the default.
  const std::vector<std::string> always = {"-nodefaults",
                                           "-display",
                                           "none",
                                           "-accel",
                                           "tcg,tb-size=32",
                                           "-qmp",
                                           fmt::format("unix:{},server=on,wait=off", qmp_path_)};
  arguments.insert(arguments.end(), always.begin(), always.end());
  const std::string log = folder_.path() + "/stderr";
  pid_ = fork();
  if (pid_ == 0) BecomeQemu(arguments, log);
  for (int attempt = 0; attempt < kStartAttempts && !ListensAlready(qmp_path_); ++attempt) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      ADD_FAILURE() << "QEMU ended at once: " << Complaints();
      return;
    }
    std::this_thread::sleep_for(kStartPause);
  }
}

QemuProcess::~QemuProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string QemuProcess::Complaints() const {
  std::ifstream file(folder_.path() + "/stderr");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool QemuProcess::Ends() {
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return true;
    }
    std::this_thread::sleep_for(kStartPause);
  }
  return false;
}

std::vector<std::string> SharedRam(const std::string& mem_path, const std::string& extra) {
  return {"-machine",
          "pc,memory-backend=ram0",
          "-m",
          std::to_string(kRamMib),
          "-object",
          fmt::format("memory-backend-file,id=ram0,size={}M,mem-path={},share=on{}", kRamMib,
                      mem_path, extra)};
}

std::vector<std::string> operator+(std::vector<std::string> left,
                                   const std::vector<std::string>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

}  // namespace faultline::test
