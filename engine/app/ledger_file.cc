#include "engine/app/ledger_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "uffd/unique_fd.h"

namespace faultline {
namespace {

tl::unexpected<Error> CannotMake(const std::string& path, int error) {
  return Fail(ErrorKind::kSystem,
              fmt::format("cannot make the page ledger {}: {}; choose another --state-dir", path,
                          std::strerror(error)));
}

}  // namespace

Result<LedgerFile> LedgerFile::Create(const std::string& directory, int pid, PageCount pages) {
  std::error_code made;
  std::filesystem::create_directories(directory, made);
  const std::string path = fmt::format("{}/receive-{}.ledger", directory, pid);
  if (made) return CannotMake(path, made.value());

  const UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return CannotMake(path, errno);
  const size_t bytes = pages.value();
  if (const int error = posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); error != 0) {
    unlink(path.c_str());
    return CannotMake(path, error);
  }
  void* const mapped =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    unlink(path.c_str());
    return CannotMake(path, error);
  }
  return LedgerFile(path, {static_cast<Ledger::Cell*>(mapped), bytes});
}

LedgerFile::LedgerFile(LedgerFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), cells_(std::exchange(other.cells_, {})) {}

LedgerFile::~LedgerFile() {
  if (cells_.empty()) return;
  munmap(cells_.data(), cells_.size());
  unlink(path_.c_str());
}

}  // namespace faultline
