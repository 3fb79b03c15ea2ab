// Real QEMUs for the tests: started, waited for, and gone with everything they made when the
// object goes, also when a test fails half-way.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace faultline::test {

/// A folder that disappears with the object.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& parent = "/tmp");
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A name for a RAM file that nobody else uses; the file, if any, goes with the object.
class RamFile {
 public:
  explicit RamFile(const std::string& folder = "/dev/shm");
  ~RamFile();
  RamFile(RamFile&& other) noexcept;
  RamFile(const RamFile&) = delete;
  RamFile& operator=(const RamFile&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// "7.2": the system's. "10.0": from provision/qemu10. Empty if it is not to be had.
std::string QemuBinary(const std::string& version);

/// A BIOS of 64 KiB whose only act is to count in guest RAM, at kCounterAddress: a guest that
/// shows whether it runs, starts in no time and touches one page.
std::string WriteCountingBios(const TemporaryFolder& folder);
/// The same, and it fills the screen (a VGA's window) over and over in between.
std::string WriteDrawingBios(const TemporaryFolder& folder);
inline constexpr uint64_t kCounterAddress = 0x8000;

class QemuProcess {
 public:
  /// Starts `binary` with a QMP socket and `arguments`; waits until the socket is there.
  QemuProcess(const std::string& binary, std::vector<std::string> arguments);
  ~QemuProcess();
  QemuProcess(const QemuProcess&) = delete;
  QemuProcess& operator=(const QemuProcess&) = delete;

  [[nodiscard]] const std::string& qmp_path() const { return qmp_path_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// What QEMU said on stderr so far.
  [[nodiscard]] std::string Complaints() const;
  /// Whether the process ends within five seconds.
  [[nodiscard]] bool Ends();

 private:
  TemporaryFolder folder_;
  std::string qmp_path_;
  pid_t pid_ = -1;
};

/// -object memory-backend-file and the machine option that uses it.
std::vector<std::string> SharedRam(const std::string& mem_path, const std::string& extra = "");
inline constexpr uint64_t kRamMib = 64;

std::vector<std::string> operator+(std::vector<std::string> left,
                                   const std::vector<std::string>& right);

}  // namespace faultline::test
