// The userfaultfd of a VMM that receives: made inside it, registered on all of guest RAM, and at
// the end taken away again, so that the guest runs as if it had never been moved.
#pragma once

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "qemu-integration/qemu_vm.h"
#include "uffd/attach.h"
#include "uffd/target_process.h"

namespace faultline {

class Attachment {
 public:
  /// Attaches and registers. Uses /dev/userfaultfd where the VMM is not privileged.
  static Result<Attachment> Create(QemuDestination& vm, const VmmMap& map);

  [[nodiscard]] const UserfaultFd& uffd() const { return attached_.uffd; }
  [[nodiscard]] const TargetProcess& process() const { return process_; }

  /// Unregisters region by region (the kernel maps the rest by itself from then on) and closes the
  /// VMM's copy. REQUIRES: no page is missing, or the guest has not run and no device was loaded.
  Status Detach(const VmmMap& map);

 private:
  Attachment(TargetProcess process, AttachedUserfault attached)
      : process_(std::move(process)), attached_(std::move(attached)) {}

  TargetProcess process_;
  AttachedUserfault attached_;
};

}  // namespace faultline
