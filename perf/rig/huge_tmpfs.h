// A file on a tmpfs that gives huge pages, as the README advises for guest RAM.
#pragma once

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "uffd/unique_fd.h"

namespace faultline::rig {

/// A file without a name on a tmpfs of its own, mounted with `option` ("huge=always", say); not
/// valid where that cannot be mounted. The mount outlives its name: it goes when the file is
/// closed. Needs root.
inline UniqueFd MakeHugeTmpfsFile(const char* option) {
  std::string directory = "/tmp/faultline-huge-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) return {};
  UniqueFd file;
  if (::mount("faultline", directory.c_str(), "tmpfs", 0, option) == 0) {
    file.Reset(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    ::umount2(directory.c_str(), MNT_DETACH);
  }
  ::rmdir(directory.c_str());
  return file;
}

}  // namespace faultline::rig
