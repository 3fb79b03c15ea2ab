// The device state's way between one QEMU and the control link: opened by the session, fed by the
// thread that reads the link.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>

#include "engine/app/control_link.h"
#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/tcp/device_relay.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

/// Threads: opened and Deliver from any, the rest from the session's.
class DeviceStream {
 public:
  /// Starts the relay over the link's present connection and gives the end that QEMU is to have.
  /// Close it once QEMU has its copy, or QEMU's end is never noticed. Once.
  Result<tcp::UniqueFd> Open(const ControlLink& link);
  [[nodiscard]] bool opened() const;
  /// The body of a DeviceState frame. Dropped where nothing is open yet, and where QEMU takes no
  /// more: it has loaded, or ended.
  void Deliver(std::span<const std::byte> body);
  /// Ends it at once. May be called without Open, and again.
  void Stop();
  [[nodiscard]] ByteCount BytesCarried() const;

 private:
  [[nodiscard]] DeviceRelay* relay() const;

  std::shared_ptr<ControlLane> lane_;  ///< kept alive for the relay
  mutable std::mutex mutex_;           ///< guards the making of relay_
  std::unique_ptr<DeviceRelay> relay_;
};

}  // namespace faultline
