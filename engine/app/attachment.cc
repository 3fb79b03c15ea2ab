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

/// Where a stripe lies in the VMM.
struct Stripe {
  VmmAddr start;
  ByteCount length;
};
Stripe PlaceOf(PageRun stripe, const VmmMap& map) {
  return {map.AddrOf(stripe.first), map.geometry().BytesOf(stripe)};
}

Result<AttachedUserfault> MakeUserfault(const TargetProcess& process,
                                        const Attachment::UnprivilegedWay& unprivileged) {
  Result<AttachedUserfault> attached = AttachUserfault(process);
  if (attached.has_value() || attached.error().kind != ErrorKind::kRefused) return attached;
  spdlog::debug("{}; trying {}", attached.error().message, kDevice);
  return unprivileged(process);
}

}  // namespace

Result<AttachedUserfault> AttachOverQmp(QmpClient& qmp, const TargetProcess& process) {
  FAULTLINE_ASSIGN(const UniqueFd device, OpenUserfaultDevice());
  FAULTLINE_TRY(qmp.PassFd(kDeviceName, device.get()));
  const std::optional<int> remote = FindDevice(process.pid());
  Result<AttachedUserfault> attached =
      remote
          ? AttachThroughDevice(process, *remote)
          : Fail(ErrorKind::kSystem, fmt::format("{} was passed into process {} and is not there",
                                                 kDevice, process.pid()));
  if (const Status closed = qmp.CloseFd(kDeviceName); !closed.has_value()) {
    spdlog::warn("{}", closed.error().message);
  }
  return attached;
}

Result<Attachment> Attachment::Create(int pid, const VmmMap& map, const ShardMap& shards,
                                      const UnprivilegedWay& unprivileged) {
  FAULTLINE_ASSIGN(TargetProcess process, TargetProcess::Open(pid));
  Attachment attachment(std::move(process));
  Status attached = attachment.Attach(map, shards, unprivileged);
  if (attached.has_value()) return attachment;
  const Status detached = attachment.Detach(map, shards);
  if (!detached.has_value()) spdlog::warn("{}", detached.error().message);
  return tl::make_unexpected(std::move(attached).error());
}

Status Attachment::Attach(const VmmMap& map, const ShardMap& shards,
                          const UnprivilegedWay& unprivileged) {
  for (size_t shard = 0; shard < shards.shard_count(); ++shard) {
    FAULTLINE_ASSIGN(AttachedUserfault attached, MakeUserfault(process_, unprivileged));
    attached_.push_back(std::move(attached));
  }
  for (const PageRun& stripe : shards.Stripes()) {
    const Stripe place = PlaceOf(stripe, map);
    FAULTLINE_TRY(uffd(shards.ShardOf(stripe.first))
                      .Register(place.start, place.length, UffdMode::kMissingAndMinor));
  }
  return {};
}

Status Attachment::Detach(const VmmMap& map, const ShardMap& shards) {
  for (const PageRun& stripe : shards.Stripes()) {
    const size_t shard = shards.ShardOf(stripe.first);
    if (shard >= attached_.size()) continue;
    const Stripe place = PlaceOf(stripe, map);
    const Status done = uffd(shard).Unregister(place.start, place.length);
    if (!done.has_value()) spdlog::debug("{}", done.error().message);
  }
  Status closed;
  for (const AttachedUserfault& attached : attached_) {
    Status one = CloseRemoteFd(process_, attached.remote_fd);
    if (!one.has_value()) closed = std::move(one);
  }
  return closed;
}

}  // namespace faultline
