#include "engine/app/device_stream.h"

#include <sys/socket.h>

#include "engine/core/check.h"

namespace faultline {

Result<tcp::UniqueFd> DeviceStream::Open(const ControlLink& link) {
  FAULTLINE_CHECK(relay_ == nullptr);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Fail(ErrorKind::kSystem, "cannot make a socket pair for the device state");
  }
  tcp::UniqueFd ours(ends[0]);
  tcp::UniqueFd qemus(ends[1]);
  lane_ = link.lane();
  if (!lane_) return Fail(ErrorKind::kPeer, "the peer closed the connection");
  FAULTLINE_ASSIGN(auto relay, DeviceRelay::Create(std::move(ours), *lane_));
  const std::lock_guard lock(mutex_);
  relay_ = std::move(relay);
  return qemus;
}

/// Lives as long as this once it is there.
DeviceRelay* DeviceStream::relay() const {
  const std::lock_guard lock(mutex_);
  return relay_.get();
}

bool DeviceStream::opened() const { return relay() != nullptr; }

void DeviceStream::Deliver(std::span<const std::byte> body) {
  if (DeviceRelay* const open = relay()) static_cast<void>(open->Deliver(body));
}

void DeviceStream::Stop() {
  if (relay_) relay_->Stop();
}

ByteCount DeviceStream::BytesCarried() const {
  return relay_ ? relay_->BytesCarried() : ByteCount(0);
}

}  // namespace faultline
