// A tmpfs that gives huge pages, as the README advises for guest RAM, seen by this process and its
// children only.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/core/check.h"
#include "uffd/unique_fd.h"

namespace faultline::rig {

/// One of this process. REQUIRES: root; the process has one thread.
class HugeTmpfs {
 public:
  static const HugeTmpfs& Get() {
    static const HugeTmpfs mounted;
    return mounted;
  }
  HugeTmpfs(const HugeTmpfs&) = delete;
  HugeTmpfs& operator=(const HugeTmpfs&) = delete;
  ~HugeTmpfs() {
    ::umount2(path_.c_str(), MNT_DETACH);
    ::rmdir(path_.c_str());
  }
  /// A file without a name.
  [[nodiscard]] UniqueFd NewFile() const {
    return UniqueFd(::open(path_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  }

 private:
  HugeTmpfs() : path_(std::filesystem::temp_directory_path() / "faultline-huge-XXXXXX") {
    FAULTLINE_CHECK(::mkdtemp(path_.data()) != nullptr);
    FAULTLINE_CHECK(::unshare(CLONE_NEWNS) == 0);
    FAULTLINE_CHECK(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    FAULTLINE_CHECK(::mount("faultline", path_.c_str(), "tmpfs", 0, "huge=within_size") == 0);
  }

  std::string path_;
};

}  // namespace faultline::rig
