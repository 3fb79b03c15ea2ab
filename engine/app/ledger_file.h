// The page ledger's storage: a file, so that it outlives the engine's process.
#pragma once

#include <span>
#include <string>

#include "engine/core/ledger.h"
#include "engine/core/result.h"

namespace faultline {

/// Owns the file and its mapping; removes both. Move-only.
class LedgerFile {
 public:
  /// Makes `directory` if need be and a fresh ledger in it for the VMM `pid`. The space is
  /// reserved here: a full disk is an error now, never a fault later.
  static Result<LedgerFile> Create(const std::string& directory, int pid, PageCount pages);
  LedgerFile(LedgerFile&& other) noexcept;
  LedgerFile& operator=(LedgerFile&&) = delete;
  ~LedgerFile();

  [[nodiscard]] std::span<Ledger::Cell> cells() const { return cells_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  LedgerFile(std::string path, std::span<Ledger::Cell> cells)
      : path_(std::move(path)), cells_(cells) {}

  std::string path_;
  std::span<Ledger::Cell> cells_;
};

}  // namespace faultline
