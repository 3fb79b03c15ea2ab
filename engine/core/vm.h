// A VMM, as the engine sees it: where guest RAM lies, and how to stop, move and run the guest.
// QEMU (qemu-integration/) is the first; the tests' native guest process is another.
//
// None of these calls is ever made on the fault path: the VMM's main thread may itself be
// blocked in a page fault that only the fault path can answer.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/result.h"
#include "engine/core/units.h"

namespace faultline {

/// One region of guest RAM inside a running VMM.
struct VmRegion {
  RegionShape shape;
  VmmAddr base;           ///< where the VMM has mapped it; contiguous for shape.length
  ByteCount file_offset;  ///< of the mapping in its file
  bool shared = false;    ///< MAP_SHARED: can be reached through map_files
};

struct VmDescription {
  int pid = 0;
  std::string version;  ///< "QEMU 7.2.22", for messages and reports
  std::vector<VmRegion> regions;
};

/// A place in guest RAM, a multiple of 4 KiB: an offset in one of the regions.
struct RamPlace {
  size_t region = 0;
  ByteCount offset;
};

/// What a running guest's processors will touch in their first instants after the switch. A guess
/// that saves time where it is right, and costs next to nothing where it is not.
struct FirstPlaces {
  std::vector<RamPlace> changing;  ///< page tables, descriptors, stacks: other bytes by then
  std::vector<RamPlace> lasting;   ///< the kernel's image: nearly all of it the same by then
};

/// Copies guest RAM from `place` to `out`, within a region, without ever allocating any. False:
/// it cannot be read.
using ReadRam = std::function<bool(RamPlace place, std::span<std::byte> out)>;

/// The page space of its regions, in their order.
Result<Geometry> GeometryOf(const VmDescription& vm);

/// The side that has the guest. Used by one thread.
class SourceVm {
 public:
  virtual ~SourceVm() = default;
  [[nodiscard]] virtual const VmDescription& description() const = 0;
  /// Nothing, if this VMM or this guest does not show it. The guest runs on.
  virtual FirstPlaces LookForFirstPlaces(const ReadRam& read) = 0;
  /// What the VMM can be told before the device state starts, so that less is left to do then. The
  /// guest runs on. Optional: StartDeviceState sees to what is missing.
  virtual Status SetUp() = 0;
  /// Takes SetUp back, if there was one. REQUIRES: no StartDeviceState.
  virtual Status Restore() = 0;
  /// Starts the device-state stream on `stream_fd` (a connected stream socket; duplicated into the
  /// VMM, stays the caller's) while the guest still runs. Returns at once.
  virtual Status StartDeviceState(int stream_fd) = 0;
  /// Waits until the guest is stopped and the VMM waits for ContinueDeviceState.
  virtual Status WaitStopped(Nanos timeout) = 0;
  /// Lets the VMM send the rest of its device state.
  virtual Status ContinueDeviceState() = 0;
  /// Waits until the VMM has finished: from then on it cannot restart the guest by itself.
  virtual Status WaitCompleted(Nanos timeout) = 0;
  /// Cancels whatever is under way and runs the guest again. Legal in every state before the
  /// commit; bounded; also right when the guest was never stopped.
  virtual Status Resume() = 0;
  /// Ends the VMM. Only after the destination has every page.
  virtual Status Quit() = 0;
};

/// The side that waits for a guest. Used by one thread.
class DestinationVm {
 public:
  virtual ~DestinationVm() = default;
  [[nodiscard]] virtual const VmDescription& description() const = 0;
  /// As a source's.
  virtual Status SetUp() = 0;
  virtual Status Restore() = 0;
  /// Sees to it that the guest cannot start by itself, and starts reading device state from
  /// `stream_fd` (as above). Returns at once.
  virtual Status StartDeviceState(int stream_fd) = 0;
  /// Waits until the devices are loaded and the guest is ready to run, paused.
  virtual Status WaitLoaded(Nanos timeout) = 0;
  /// Runs the guest. Only after Go.
  virtual Status Run() = 0;
  /// Tells the network where the guest is now. After Run; failure is not an error of the move.
  virtual Status Announce() = 0;
};

}  // namespace faultline
