// Attaching to a running VMM from outside: a userfaultfd is made inside it, and a copy fetched.
//
// The VMM keeps its own copy (`remote_fd`), and that is the safety: while it lives, a dead engine
// makes the guest wait, where a closed last copy would let it read zeroes. Close it only when
// every range is unregistered.
#pragma once

#include "engine/core/result.h"
#include "uffd/target_process.h"
#include "uffd/userfault_fd.h"

namespace faultline {

struct AttachedUserfault {
  UserfaultFd uffd;    ///< ours
  int remote_fd = -1;  ///< its number inside the VMM
};

/// Makes the VMM call userfaultfd(2). A VMM that is not privileged gets EPERM: the error then has
/// kind kRefused, and the way in is AttachThroughDevice.
Result<AttachedUserfault> AttachUserfault(const TargetProcess& target);

/// For an unprivileged VMM. `remote_device_fd` is an open /dev/userfaultfd inside the VMM, put
/// there by somebody (QMP getfd), who also closes it afterwards. Linux 6.1.
Result<AttachedUserfault> AttachThroughDevice(const TargetProcess& target, int remote_device_fd);
/// The device, opened here to be passed on.
Result<UniqueFd> OpenUserfaultDevice();

/// A new engine takes up what a dead one left: a copy of `remote_fd`, its features agreed on.
/// Wake every range afterwards: messages that the dead one had read are not sent again.
Result<AttachedUserfault> ReattachUserfault(const TargetProcess& target, int remote_fd);

/// Closes a descriptor inside the VMM. REQUIRES: nothing is registered with it any more.
Status CloseRemoteFd(const TargetProcess& target, int remote_fd);

}  // namespace faultline
