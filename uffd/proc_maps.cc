#include "uffd/proc_maps.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <optional>

#include "uffd/system_error.h"

namespace faultline {

namespace {

/// Takes numbers and words off the front of a line.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  std::optional<uint64_t> Number(int base) {
    uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    if (error != std::errc()) return std::nullopt;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }
  bool Skip(char expected) {
    if (rest_.empty() || rest_.front() != expected) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string_view Word(size_t length) {
    const std::string_view word = rest_.substr(0, length);
    rest_.remove_prefix(word.size());
    return word;
  }
  std::string_view RestWithoutBlanks() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size()));
    return rest_;
  }

 private:
  std::string_view rest_;
};

/// The kernel writes a newline in a path as \012, and nothing else (fs/seq_file.c, mangle_path).
std::string Unescape(std::string_view path) {
  constexpr std::string_view kNewline = "\\012";
  std::string plain;
  for (size_t at = path.find(kNewline); at != std::string_view::npos; at = path.find(kNewline)) {
    plain.append(path.substr(0, at)).push_back('\n');
    path.remove_prefix(at + kNewline.size());
  }
  plain.append(path);
  return plain;
}

bool GoesOn(const ProcMapping& left, const ProcMapping& right) {
  return left.end == right.start && left.device == right.device && left.inode == right.inode &&
         left.shared == right.shared && left.file_offset + left.length() == right.file_offset;
}

}  // namespace

Result<ProcMapping> ParseProcMapsLine(std::string_view line) {
  // 7f0000000000-7f0000200000 rw-s 00000000 00:1a 1234    /dev/shm/name (deleted)
  LineReader reader(line);
  const auto start = reader.Number(16);
  const bool dash = reader.Skip('-');
  const auto end = reader.Number(16);
  reader.Skip(' ');
  const std::string_view permissions = reader.Word(4);
  reader.Skip(' ');
  const auto offset = reader.Number(16);
  reader.Skip(' ');
  const auto major_number = reader.Number(16);
  const bool colon = reader.Skip(':');
  const auto minor_number = reader.Number(16);
  reader.Skip(' ');
  const auto inode = reader.Number(10);
  if (!start || !dash || !end || permissions.size() != 4 || !offset || !major_number || !colon ||
      !minor_number || !inode || *end <= *start) {
    return Fail(ErrorKind::kSystem, fmt::format("read a line of /proc/PID/maps: \"{}\"", line));
  }
  return ProcMapping{.start = VmmAddr(*start),
                     .end = VmmAddr(*end),
                     .readable = permissions[0] == 'r',
                     .writable = permissions[1] == 'w',
                     .executable = permissions[2] == 'x',
                     .shared = permissions[3] == 's',
                     .file_offset = ByteCount(*offset),
                     .device = ::makedev(static_cast<unsigned>(*major_number),
                                         static_cast<unsigned>(*minor_number)),
                     .inode = *inode,
                     .path = Unescape(reader.RestWithoutBlanks())};
}

Result<std::vector<ProcMapping>> ReadProcMaps(int pid) {
  const std::string path = fmt::format("/proc/{}/maps", pid);
  std::ifstream file(path);
  if (!file)
    return SystemFailure(fmt::format("read the mappings of process {} ({})", pid, path), errno);
  std::vector<ProcMapping> mappings;
  for (std::string line; std::getline(file, line);) {
    FAULTLINE_ASSIGN(ProcMapping mapping, ParseProcMapsLine(line));
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

std::vector<ProcMapping> MergeFileMappings(const std::vector<ProcMapping>& mappings) {
  std::vector<ProcMapping> merged;
  for (const ProcMapping& mapping : mappings) {
    if (mapping.inode == 0) continue;
    if (!merged.empty() && GoesOn(merged.back(), mapping)) {
      merged.back().end = mapping.end;
    } else {
      merged.push_back(mapping);
    }
  }
  return merged;
}

std::vector<ProcMapping> MappingsOfFile(const std::vector<ProcMapping>& merged, uint64_t device,
                                        uint64_t inode) {
  std::vector<ProcMapping> found;
  for (const ProcMapping& mapping : merged) {
    if (mapping.device == device && mapping.inode == inode) found.push_back(mapping);
  }
  return found;
}

std::vector<ProcMapping> MappingsOfPathPrefix(const std::vector<ProcMapping>& merged,
                                              std::string_view prefix) {
  std::vector<ProcMapping> found;
  for (const ProcMapping& mapping : merged) {
    if (std::string_view(mapping.path).substr(0, prefix.size()) == prefix) found.push_back(mapping);
  }
  return found;
}

}  // namespace faultline
