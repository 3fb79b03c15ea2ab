// Files for guest RAM of every kind, and what the machine needs for them.
#pragma once

#include <optional>
#include <string>

#include "engine/core/units.h"
#include "uffd/unique_fd.h"

namespace faultline::testing {

enum class BackingKind {
  kTmpfs,      ///< 4 KiB pages
  kHugeTmpfs,  ///< 4 KiB pages out of 2 MiB folios: a tmpfs of its own with huge=always
  kHugetlbfs,  ///< 2 MiB pages
};

std::string NameOf(BackingKind kind);
PageSize PageSizeOf(BackingKind kind);

/// Empty if this machine can make such files now, else the reason, for GTEST_SKIP.
std::string WhyUnavailable(BackingKind kind);

/// Keeps a number of 2 MiB pages in the machine's pool while it lives and gives them back then.
/// Other test processes wait their turn.
class HugePagePool {
 public:
  explicit HugePagePool(int pages);
  HugePagePool(const HugePagePool&) = delete;
  HugePagePool& operator=(const HugePagePool&) = delete;
  ~HugePagePool();
  [[nodiscard]] bool filled() const { return filled_; }

 private:
  UniqueFd setting_;
  int before_ = 0;
  bool filled_ = false;
};

/// A file without a name, of `length` bytes, empty.
UniqueFd MakeBackingFile(BackingKind kind, ByteCount length);

}  // namespace faultline::testing
