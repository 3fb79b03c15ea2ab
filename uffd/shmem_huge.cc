#include "uffd/shmem_huge.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <sstream>

namespace faultline {

namespace {

std::string TextOf(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

std::string HugeOptionIn(std::string_view mountinfo, uint64_t device) {
  const std::string wanted = fmt::format(" {}:{} ", major(device), minor(device));
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    if (line.find(wanted) == std::string::npos) continue;
    // The file system's own options come last, after " - type source".
    const size_t option = line.find("huge=", line.rfind(" - "));
    if (option == std::string::npos) return "never";
    const size_t value = option + std::string_view("huge=").size();
    return line.substr(value, line.find_first_of(", ", value) - value);
  }
  return "";
}

std::string ChosenIn(std::string_view setting) {
  const size_t open = setting.find('[');
  const size_t close = setting.find(']', open);
  if (close == std::string_view::npos) return "";
  return std::string(setting.substr(open + 1, close - open - 1));
}

bool TmpfsGivesHugePages(int pid, const struct stat& file) {
  constexpr blksize_t kSmallestHugePage = blksize_t{1} << 20;
  if (file.st_blksize >= kSmallestHugePage) return true;
  const std::string all = ChosenIn(TextOf("/sys/kernel/mm/transparent_hugepage/shmem_enabled"));
  if (all == "deny") return false;
  const std::string mount =
      HugeOptionIn(TextOf(fmt::format("/proc/{}/mountinfo", pid)), file.st_dev);
  return (mount.empty() ? all : mount) == "advise";
}

}  // namespace faultline
