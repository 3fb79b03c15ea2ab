#include "engine/app/attachment.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <filesystem>
#include <optional>

namespace faultline {
namespace {

constexpr const char* kDevice = "/dev/userfaultfd";
constexpr const char* kDeviceName = "faultline-userfaultfd";

/// Which of the process's descriptors is the userfaultfd device.
std::optional<int> FindDevice(int pid) {
  std::error_code error;
  const std::filesystem::path folder = fmt::format("/proc/{}/fd", pid);
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (std::filesystem::read_symlink(entry.path(), error) != kDevice) continue;
    const std::string name = entry.path().filename();
    int number = -1;
    std::from_chars(name.data(), name.data() + name.size(), number);
    return number;
  }
  return std::nullopt;
}

Result<AttachedUserfault> AttachUnprivileged(QemuDestination& vm, const TargetProcess& process) {
  FAULTLINE_ASSIGN(const UniqueFd device, OpenUserfaultDevice());
  FAULTLINE_TRY(vm.qmp().PassFd(kDeviceName, device.get()));
  const std::optional<int> remote = FindDevice(process.pid());
  Result<AttachedUserfault> attached =
      remote
          ? AttachThroughDevice(process, *remote)
          : Fail(ErrorKind::kSystem, fmt::format("{} was passed into process {} and is not there",
                                                 kDevice, process.pid()));
  if (const Status closed = vm.qmp().CloseFd(kDeviceName); !closed.has_value()) {
    spdlog::warn("{}", closed.error().message);
  }
  return attached;
}

Result<AttachedUserfault> Attach(QemuDestination& vm, const TargetProcess& process) {
  Result<AttachedUserfault> attached = AttachUserfault(process);
  if (attached.has_value() || attached.error().kind != ErrorKind::kRefused) return attached;
  spdlog::debug("{}; trying {}", attached.error().message, kDevice);
  return AttachUnprivileged(vm, process);
}

}  // namespace

Result<Attachment> Attachment::Create(QemuDestination& vm, const VmmMap& map) {
  FAULTLINE_ASSIGN(TargetProcess process, TargetProcess::Open(vm.description().pid));
  FAULTLINE_ASSIGN(AttachedUserfault attached, Attach(vm, process));
  Attachment attachment(std::move(process), std::move(attached));
  for (size_t region = 0; region < map.geometry().region_count(); ++region) {
    const Status registered = attachment.uffd().Register(
        map.base(region), map.geometry().shape(region).length, UffdMode::kMissingAndMinor);
    if (registered.has_value()) continue;
    const Status detached = attachment.Detach(map);
    if (!detached.has_value()) spdlog::warn("{}", detached.error().message);
    return tl::make_unexpected(registered.error());
  }
  return attachment;
}

Status Attachment::Detach(const VmmMap& map) {
  for (size_t region = 0; region < map.geometry().region_count(); ++region) {
    const Status done = uffd().Unregister(map.base(region), map.geometry().shape(region).length);
    if (!done.has_value()) spdlog::debug("{}", done.error().message);
  }
  return CloseRemoteFd(process_, attached_.remote_fd);
}

}  // namespace faultline
