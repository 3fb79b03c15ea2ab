#include "rdma/verbs.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "rdma/memlock.h"

namespace faultline::rdma {
namespace {

unsigned AccessOf(RegionUse use, DeviceContext device) {
  // LOCAL_WRITE although nothing is ever written: the kernel then pins with write faults, one page
  // each and none around it, which is what uffd/extent_mapping.h proves with.
  if (use == RegionUse::kReadByPeer) return IBV_ACCESS_REMOTE_READ | IBV_ACCESS_LOCAL_WRITE;
  unsigned access = IBV_ACCESS_LOCAL_WRITE;
  // iWARP answers a READ with a write to the reader's memory, by a key that crosses the wire
  // (RFC 5040, 4.3): without this right it is refused.
  if (device->device->transport_type == IBV_TRANSPORT_IWARP) access |= IBV_ACCESS_REMOTE_WRITE;
  return access;
}

}  // namespace

tl::unexpected<Error> VerbsFailure(const std::string& tried, DeviceContext device,
                                   int error_number) {
  const char* name = device != nullptr ? ibv_get_device_name(device->device) : "no device";
  return Fail(ErrorKind::kSystem,
              fmt::format("RDMA: {} on {}: {} ({})", tried, name, std::strerror(error_number),
                          strerrorname_np(error_number)));
}

Result<ProtectionDomain> MakeProtectionDomain(DeviceContext device) {
  ProtectionDomain domain(ibv_alloc_pd(device));
  if (!domain) return VerbsFailure("make a protection domain", device, errno);
  return domain;
}

Result<CompletionEvents> MakeCompletionEvents(DeviceContext device) {
  CompletionEvents events(ibv_create_comp_channel(device));
  if (!events) return VerbsFailure("make a completion channel", device, errno);
  return events;
}

Result<CompletionQueue> MakeCompletionQueue(DeviceContext device, int entries,
                                            ibv_comp_channel* events) {
  CompletionQueue queue(ibv_create_cq(device, entries, nullptr, events, 0));
  if (!queue) {
    return VerbsFailure(fmt::format("make a completion queue of {}", entries), device, errno);
  }
  return queue;
}

Result<MemoryRegion> Register(ibv_pd* domain, std::span<std::byte> memory, RegionUse use) {
  const unsigned access = AccessOf(use, domain->context);
  MemoryRegion region(ibv_reg_mr(domain, memory.data(), memory.size(), access));
  if (region) return region;
  const int error_number = errno;
  const std::string tried = fmt::format("register {} KiB of memory", memory.size() >> 10);
  auto failure = VerbsFailure(tried, domain->context, error_number);
  if (error_number == ENOMEM) failure.value().message += DescribeMemlock();
  return failure;
}

}  // namespace faultline::rdma
