// Owners of verbs objects, one kind each, and the only place where they are made. Move-only; an
// object must go before what it was made on (a region before its protection domain).
//
// Contexts of devices belong to librdmacm, which keeps them open for the process's life:
// DeviceContext is a plain pointer.
// Source: ibv_alloc_pd(3), ibv_create_comp_channel(3), ibv_create_cq(3), ibv_reg_mr(3).
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "engine/core/result.h"

namespace faultline::rdma {

using DeviceContext = ibv_context*;

template <auto Destroy>
struct VerbsDeleter {
  template <class T>
  void operator()(T* object) const {
    (void)Destroy(object);  // fails only if something made on it still lives, or with the device
  }
};

using ProtectionDomain = std::unique_ptr<ibv_pd, VerbsDeleter<ibv_dealloc_pd>>;
using CompletionEvents = std::unique_ptr<ibv_comp_channel, VerbsDeleter<ibv_destroy_comp_channel>>;
using CompletionQueue = std::unique_ptr<ibv_cq, VerbsDeleter<ibv_destroy_cq>>;
using MemoryRegion = std::unique_ptr<ibv_mr, VerbsDeleter<ibv_dereg_mr>>;

/// Who may do what with a memory region.
enum class RegionUse : uint8_t {
  kInvalid = 0,
  kReadByPeer,  ///< the source's RAM: the peer's READs take from it
  kLandReads,   ///< the destination's: our own READs land in it
};

Result<ProtectionDomain> MakeProtectionDomain(DeviceContext device);
Result<CompletionEvents> MakeCompletionEvents(DeviceContext device);
/// `events`: where completions are announced; nullptr: nowhere. Outlives the queue.
Result<CompletionQueue> MakeCompletionQueue(DeviceContext device, int entries,
                                            ibv_comp_channel* events);
/// Pins the memory, and allocates what has none yet. The error says which limit was met.
Result<MemoryRegion> Register(ibv_pd* domain, std::span<std::byte> memory, RegionUse use);

/// "`tried` on mlx5_0: Cannot allocate memory (ENOMEM)", kind kSystem.
tl::unexpected<Error> VerbsFailure(const std::string& tried, DeviceContext device,
                                   int error_number);

}  // namespace faultline::rdma
