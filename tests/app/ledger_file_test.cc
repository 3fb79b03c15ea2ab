#include "engine/app/ledger_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace faultline {
namespace {

std::string FreshDirectory(const char* name) {
  return "/tmp/faultline-ledger-" + std::to_string(getpid()) + "-" + name;
}

TEST(LedgerFileTest, AFreshLedgerIsAbsentThroughout) {
  const std::string directory = FreshDirectory("fresh");
  const auto file = LedgerFile::Create(directory, 1, PageCount(1000));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const Ledger ledger(file->cells());
  EXPECT_EQ(ledger.missing(), PageCount(1000));
  std::filesystem::remove_all(directory);
}

TEST(LedgerFileTest, TheFileGoesWithItsOwner) {
  const std::string directory = FreshDirectory("gone");
  std::string path;
  {
    const auto file = LedgerFile::Create(directory, 2, PageCount(10));
    ASSERT_TRUE(file.has_value()) << file.error().message;
    path = file->path();
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  std::filesystem::remove_all(directory);
}

TEST(LedgerFileTest, ADirectoryThatCannotBeMadeIsOneClearLine) {
  const auto file = LedgerFile::Create("/proc/faultline", 3, PageCount(10));
  ASSERT_FALSE(file.has_value());
  EXPECT_NE(file.error().message.find("--state-dir"), std::string::npos);
}

}  // namespace
}  // namespace faultline
