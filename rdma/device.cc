#include "rdma/device.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

namespace faultline::rdma {
namespace {

struct DeviceListDeleter {
  void operator()(ibv_device** list) const { ibv_free_device_list(list); }
};
using DeviceList = std::unique_ptr<ibv_device*, DeviceListDeleter>;
using OwnContext = std::unique_ptr<ibv_context, VerbsDeleter<ibv_close_device>>;

constexpr size_t kGidsMax = 256;

/// The address that a RoCE GID is; empty for a link-local or an InfiniBand one.
std::string AddressOf(const ibv_gid_entry& entry) {
  if (entry.gid_type == IBV_GID_TYPE_IB) return {};
  in6_addr address{};
  static_assert(sizeof(address) == sizeof(entry.gid.raw));
  std::memcpy(&address, entry.gid.raw, sizeof(address));
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    return ::inet_ntop(AF_INET, &address.s6_addr[12], text.data(), text.size());
  }
  if (IN6_IS_ADDR_LINKLOCAL(&address) || IN6_IS_ADDR_UNSPECIFIED(&address)) return {};
  return ::inet_ntop(AF_INET6, &address, text.data(), text.size());
}

bool IsUp(DeviceContext device, uint32_t port) {
  ibv_port_attr attributes{};
  return ibv_query_port(device, static_cast<uint8_t>(port), &attributes) == 0 &&
         attributes.state == IBV_PORT_ACTIVE;
}

struct Found {
  std::vector<DeviceAddress> addresses;
  std::string closed;  ///< a device that could not be opened
};

void AppendAddresses(ibv_device* device, Found& found) {
  const OwnContext context(ibv_open_device(device));
  if (!context) {  // the errno says nothing: libibverbs tries several paths
    found.closed = ibv_get_device_name(device);
    return;
  }
  std::vector<ibv_gid_entry> gids(kGidsMax);
  const ssize_t count = ibv_query_gid_table(context.get(), gids.data(), gids.size(), 0);
  for (ssize_t i = 0; i < count; ++i) {
    const ibv_gid_entry& entry = gids[static_cast<size_t>(i)];
    const DeviceAddress address{ibv_get_device_name(device), AddressOf(entry)};
    // RoCE v1 and v2 have an entry each for the same address.
    const bool known =
        std::any_of(found.addresses.begin(), found.addresses.end(), [&](const auto& each) {
          return each.device == address.device && each.host == address.host;
        });
    if (!address.host.empty() && !known && IsUp(context.get(), entry.port_num)) {
      found.addresses.push_back(address);
    }
  }
}

/// Of the device with that name, or of all.
Found FindAddresses(const std::string& name) {
  Found found;
  const DeviceList list(ibv_get_device_list(nullptr));
  for (ibv_device** device = list.get(); device != nullptr && *device != nullptr; ++device) {
    if (name.empty() || name == ibv_get_device_name(*device)) AppendAddresses(*device, found);
  }
  return found;
}

std::vector<std::string> ListNames() {
  std::vector<std::string> names;
  const DeviceList list(ibv_get_device_list(nullptr));
  for (ibv_device** device = list.get(); device != nullptr && *device != nullptr; ++device) {
    names.emplace_back(ibv_get_device_name(*device));
  }
  return names;
}

tl::unexpected<Error> NoSuchDevice(const std::string& name, const std::vector<std::string>& names) {
  std::string there;
  for (const std::string& each : names) there += (there.empty() ? "" : ", ") + each;
  return Fail(ErrorKind::kRefused,
              fmt::format("RDMA: this host has no device \"{}\"; it has {}", name, there));
}

tl::unexpected<Error> NotOpened(const std::string& device) {
  return Fail(ErrorKind::kRefused,
              fmt::format("RDMA: {} cannot be opened: may this user open /dev/infiniband/uverbs*? "
                          "Or use --transport tcp",
                          device));
}

}  // namespace

bool HasDevices() { return !ListNames().empty(); }

std::string NameOf(DeviceContext device) { return ibv_get_device_name(device->device); }

std::vector<DeviceAddress> ListAddresses() { return FindAddresses("").addresses; }

Result<DeviceAddress> ChooseAddress(const std::string& name, const std::string& preferred) {
  const std::vector<std::string> names = ListNames();
  if (names.empty()) {
    return Fail(ErrorKind::kRefused,
                "RDMA: this host has no RDMA device (ibv_devices lists them); use --transport tcp");
  }
  const bool known = name.empty() || std::find(names.begin(), names.end(), name) != names.end();
  if (!known) return NoSuchDevice(name, names);
  const Found found = FindAddresses(name);
  const auto same = std::find_if(found.addresses.begin(), found.addresses.end(),
                                 [&](const auto& each) { return each.host == preferred; });
  if (same != found.addresses.end()) return *same;
  if (!found.addresses.empty()) return found.addresses.front();
  if (!found.closed.empty()) return NotOpened(found.closed);
  // InfiniBand: no address in the table. The control connection's is right if it is IPoIB.
  return DeviceAddress{name, preferred};
}

Result<DeviceLimits> LimitsOf(DeviceContext device, uint8_t port) {
  ibv_device_attr attributes{};
  if (const int failed = ibv_query_device(device, &attributes); failed != 0) {
    return VerbsFailure("ask what it can do", device, failed);
  }
  ibv_port_attr port_attributes{};
  if (const int failed = ibv_query_port(device, port, &port_attributes); failed != 0) {
    return VerbsFailure("ask about its port", device, failed);
  }
  const auto small = [](int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); };
  return DeviceLimits{.device = NameOf(device),
                      .region_bytes_max = ByteCount(attributes.max_mr_size),
                      .regions_max = static_cast<uint32_t>(std::max(attributes.max_mr, 0)),
                      .message_bytes_max = ByteCount(port_attributes.max_msg_sz),
                      .reads_out = small(attributes.max_qp_init_rd_atom),
                      .reads_in = small(attributes.max_qp_rd_atom),
                      .queue_depth_max = std::min(attributes.max_qp_wr, attributes.max_cqe)};
}

}  // namespace faultline::rdma
