// Can this QEMU be moved? Every refusal of the design, each with one line that says what is wrong
// and what to change on QEMU's command line. Pure: it judges facts and asks nobody.
#pragma once

#include <string>
#include <vector>

#include "engine/core/result.h"
#include "qemu-integration/qemu_inspect.h"

namespace faultline {

enum class VmRole : unsigned char { kSource, kDestination };

enum class Severity : unsigned char {
  kNote,     ///< good to know
  kWarning,  ///< works, at a price
  kRefusal,  ///< does not work
};

struct Finding {
  Severity severity = Severity::kNote;
  std::string line;
};

/// Refusals first, then warnings, then notes.
std::vector<Finding> CheckQemu(const QemuFacts& facts, VmRole role);

/// A QEMU that waits with -incoming is a destination.
VmRole RoleOf(const QemuFacts& facts);

/// What has to be equal on both sides and can be compared before anything moves.
struct MachineFacts {
  std::string machine;
  bool kvm = false;
  size_t vcpus = 0;
  ByteCount ram;
};
MachineFacts MachineOf(const QemuFacts& facts);
std::vector<Finding> CompareMachines(const MachineFacts& source, const MachineFacts& destination);

/// The first refusal as an error, or success.
Status FirstRefusal(const std::vector<Finding>& findings);

}  // namespace faultline
