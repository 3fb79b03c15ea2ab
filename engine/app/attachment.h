// The userfaultfds of a VMM that receives: made inside it, one for each shard, registered on all of
// guest RAM, and at the end taken away again, so that the guest runs as if it had never been moved.
#pragma once

#include <functional>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "engine/core/shard_map.h"
#include "qemu-integration/qmp_client.h"
#include "uffd/attach.h"
#include "uffd/target_process.h"

namespace faultline {

class Attachment {
 public:
  /// Makes a userfaultfd in a process that may not make one by itself.
  using UnprivilegedWay = std::function<Result<AttachedUserfault>(const TargetProcess&)>;

  /// Attaches and registers.
  static Result<Attachment> Create(int pid, const VmmMap& map, const ShardMap& shards,
                                   const UnprivilegedWay& unprivileged);

  [[nodiscard]] const UserfaultFd& uffd(size_t shard) const { return attached_[shard].uffd; }
  [[nodiscard]] const TargetProcess& process() const { return process_; }

  /// Unregisters stripe by stripe (the kernel maps the rest by itself from then on) and closes the
  /// VMM's copies. REQUIRES: no page is missing, or the guest has not run and no device was loaded.
  Status Detach(const VmmMap& map, const ShardMap& shards);

 private:
  explicit Attachment(TargetProcess process) : process_(std::move(process)) {}
  Status Attach(const VmmMap& map, const ShardMap& shards, const UnprivilegedWay& unprivileged);

  TargetProcess process_;
  std::vector<AttachedUserfault> attached_;  ///< one for each shard
};

/// For an unprivileged QEMU: /dev/userfaultfd is lent to it over QMP.
Result<AttachedUserfault> AttachOverQmp(QmpClient& qmp, const TargetProcess& process);

}  // namespace faultline
