#include "qemu-integration/proc_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

namespace faultline {

namespace {

tl::unexpected<Error> CannotRead(const std::string& path) {
  const char* advice = errno == EACCES || errno == EPERM
                           ? " — run faultline as root or as QEMU's user with CAP_SYS_PTRACE and "
                             "CAP_CHECKPOINT_RESTORE"
                           : "";
  return Fail(ErrorKind::kSystem,
              fmt::format("cannot read {}: {}{}", path, std::strerror(errno), advice));
}

Result<std::string> ReadText(const std::string& path) {
  errno = 0;
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  // An empty file fails the insertion, too; the open tells the two apart.
  if (!file.is_open()) return CannotRead(path);
  return text.str();
}

/// Splits off what stands before the next `separator`, and the separators that follow.
std::string_view NextWord(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(text.find_first_not_of(separator, end), text.size()));
  return word;
}

bool ParseNumber(std::string_view text, int base, uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

/// One line of /proc/PID/maps: "start-end perms offset major:minor inode   path". False: not a
/// file mapping, or not understood.
bool ParseVma(std::string_view line, MappedFile& vma) {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  if (!ParseNumber(NextWord(line, '-'), 16, start)) return false;
  if (!ParseNumber(NextWord(line, ' '), 16, end) || end <= start) return false;
  const std::string_view permissions = NextWord(line, ' ');
  if (permissions.size() != 4) return false;
  if (!ParseNumber(NextWord(line, ' '), 16, offset)) return false;
  vma.device = NextWord(line, ' ');
  if (!ParseNumber(NextWord(line, ' '), 10, vma.inode) || vma.inode == 0) return false;
  constexpr std::string_view kDeleted = " (deleted)";
  vma.deleted = line.size() > kDeleted.size() &&
                line.compare(line.size() - kDeleted.size(), kDeleted.size(), kDeleted) == 0;
  if (vma.deleted) line.remove_suffix(kDeleted.size());
  vma.path = line;
  vma.base = VmmAddr(start);
  vma.length = ByteCount(end - start);
  vma.first_length = vma.length;
  vma.file_offset = ByteCount(offset);
  vma.shared = permissions[3] == 's';
  return true;
}

bool Continues(const MappedFile& before, const MappedFile& next) {
  return before.base + before.length == next.base &&
         before.file_offset + before.length == next.file_offset && before.inode == next.inode &&
         before.device == next.device && before.shared == next.shared;
}

/// The huge= option of the tmpfs mount with that device number, as QEMU's process sees it.
std::string HugeOption(int pid, dev_t device) {
  const auto text = ReadText(fmt::format("/proc/{}/mountinfo", pid));
  const std::string wanted = fmt::format(" {}:{} ", major(device), minor(device));
  std::istringstream lines(text.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(wanted) == std::string::npos) continue;
    const size_t option = line.find("huge=");
    if (option == std::string::npos) return "never";
    const size_t value = option + 5;
    return line.substr(value, line.find_first_of(", \n", value) - value);
  }
  return "never";
}

/// The inodes of the UNIX sockets with that name, as text.
std::vector<std::string> SocketInodes(const std::string& unix_table, const std::string& path) {
  std::vector<std::string> inodes;
  std::istringstream lines(unix_table);
  for (std::string line; std::getline(lines, line);) {
    // "Num RefCount Protocol Flags Type St Inode Path"
    std::istringstream words(line);
    std::array<std::string, 7> fields;
    for (std::string& field : fields) words >> field;
    std::string name;
    std::getline(words >> std::ws, name);
    if (name == path) inodes.push_back(fields[6]);
  }
  return inodes;
}

}  // namespace

std::vector<MappedFile> ParseMaps(std::string_view text) {
  std::vector<MappedFile> mappings;
  while (!text.empty()) {
    MappedFile vma;
    if (!ParseVma(NextWord(text, '\n'), vma)) continue;
    if (!mappings.empty() && Continues(mappings.back(), vma)) {
      mappings.back().length += vma.length;
    } else {
      mappings.push_back(std::move(vma));
    }
  }
  return mappings;
}

Result<std::vector<MappedFile>> ReadMaps(int pid) {
  FAULTLINE_ASSIGN(const std::string text, ReadText(fmt::format("/proc/{}/maps", pid)));
  return ParseMaps(text);
}

Result<std::string> ProcessName(int pid) {
  FAULTLINE_ASSIGN(std::string name, ReadText(fmt::format("/proc/{}/comm", pid)));
  name.erase(std::min(name.find('\n'), name.size()));
  return name;
}

Result<ByteCount> LockedMemory(int pid) {
  FAULTLINE_ASSIGN(const std::string text, ReadText(fmt::format("/proc/{}/status", pid)));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, 6, "VmLck:") == 0) return ByteCount(std::stoull(line.substr(6)) * 1024);
  }
  return ByteCount(0);
}

Result<std::vector<std::string>> OpenFiles(int pid) {
  const std::string folder = fmt::format("/proc/{}/fd", pid);
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(folder.c_str()), closedir);
  if (!listing) return CannotRead(folder);
  std::vector<std::string> files;
  while (const dirent* entry = readdir(listing.get())) {
    std::array<char, 4096> target;
    const ssize_t length =
        readlinkat(dirfd(listing.get()), entry->d_name, target.data(), target.size());
    if (length > 0) files.emplace_back(target.data(), static_cast<size_t>(length));
  }
  return files;
}

Result<std::optional<bool>> HoldsSocket(int pid, const std::string& path) {
  FAULTLINE_ASSIGN(const std::string table, ReadText(fmt::format("/proc/{}/net/unix", pid)));
  const std::vector<std::string> inodes = SocketInodes(table, path);
  if (inodes.empty()) return std::optional<bool>();
  FAULTLINE_ASSIGN(const auto files, OpenFiles(pid));
  for (const std::string& inode : inodes) {
    const std::string link = fmt::format("socket:[{}]", inode);
    for (const std::string& file : files) {
      if (file == link) return std::optional<bool>(true);
    }
  }
  return std::optional<bool>(false);
}

std::string MapFileLink(int pid, const MappedFile& mapping) {
  return fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping.base.value(),
                     (mapping.base + mapping.first_length).value());
}

Result<FileFacts> StatMapping(int pid, const MappedFile& mapping) {
  const std::string link = MapFileLink(pid, mapping);
  struct stat status {};
  struct statfs system {};
  if (stat(link.c_str(), &status) != 0 || statfs(link.c_str(), &system) != 0) {
    if (errno != ENOENT) return CannotRead(link);
    return Fail(ErrorKind::kSystem,
                fmt::format("process {} no longer maps {}: try again", pid, mapping.path));
  }
  FileFacts facts;
  facts.populated = ByteCount(static_cast<uint64_t>(status.st_blocks) * 512);
  if (system.f_type == TMPFS_MAGIC) {
    facts.filesystem = FileSystem::kTmpfs;
    facts.huge = HugeOption(pid, status.st_dev);
  } else if (system.f_type == HUGETLBFS_MAGIC) {
    facts.filesystem = FileSystem::kHugetlbfs;
    facts.page_size = PageSize(static_cast<uint64_t>(system.f_bsize));
  }
  return facts;
}

}  // namespace faultline
