#include "rdma/landing_pool.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "engine/core/check.h"

namespace faultline::rdma {

std::optional<RingSpace::Piece> RingSpace::Fit(uint64_t bytes) const {
  if (bytes > size_) return std::nullopt;
  const uint64_t at = taken_ % size_;
  const uint64_t skipped = at + bytes <= size_ ? 0 : size_ - at;
  const uint64_t end = taken_ + skipped + bytes;
  if (end - given_ > size_) return std::nullopt;
  return Piece{(taken_ + skipped) % size_, end};
}

Result<std::unique_ptr<LandingPool>> LandingPool::Create(ibv_pd& domain, ByteCount bytes) {
  void* const base = ::mmap(nullptr, bytes.value(), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (base == MAP_FAILED) {
    return VerbsFailure(fmt::format("map {} bytes to land in", bytes.value()), domain.context,
                        errno);
  }
  // A child must not share pages that a device writes to.
  (void)::madvise(base, bytes.value(), MADV_DONTFORK);
  (void)::madvise(base, bytes.value(), MADV_DONTDUMP);
  std::unique_ptr<LandingPool> pool(
      new LandingPool({static_cast<std::byte*>(base), bytes.value()}));
  FAULTLINE_ASSIGN(pool->region_, Register(&domain, pool->memory_, RegionUse::kLandReads));
  return pool;
}

LandingPool::~LandingPool() {
  region_.reset();
  ::munmap(memory_.data(), memory_.size());
}

}  // namespace faultline::rdma
