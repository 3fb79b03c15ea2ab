// Which RDMA devices this host has, where they are reached, and what they can do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

/// An address at which a device's queue pairs can be dialled.
struct DeviceAddress {
  std::string device;
  std::string host;  ///< numeric
};

/// What a device allows, as far as we are concerned.
struct DeviceLimits {
  std::string device;
  ByteCount region_bytes_max;   ///< of one memory region
  uint32_t regions_max = 0;     ///< memory regions, all processes together
  ByteCount message_bytes_max;  ///< of one READ
  uint8_t reads_out = 0;        ///< outstanding READs that a queue pair may have …
  uint8_t reads_in = 0;         ///< … and may answer
  int queue_depth_max = 0;      ///< work requests of a queue pair, completions of a queue
};

[[nodiscard]] bool HasDevices();

/// The devices' addresses, from their tables of GIDs (RoCE: the addresses of their network
/// interfaces; none for InfiniBand). Only ports that are up.
std::vector<DeviceAddress> ListAddresses();

/// Where to listen, or to dial from. `name`: --rdma-device, or empty. `preferred`: the address that
/// the control connection has at this end: taken if it is a device's. Errors are kRefused, one
/// line: no device, no such device, the device has no address.
Result<DeviceAddress> ChooseAddress(const std::string& name, const std::string& preferred);

Result<DeviceLimits> LimitsOf(DeviceContext device, uint8_t port);
std::string NameOf(DeviceContext device);

}  // namespace faultline::rdma
