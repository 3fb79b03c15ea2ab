// A small registered buffer for READs whose place in guest RAM is not registered: they land here
// and are written into the file when they are complete. A ring: pieces are taken and given back in
// the same order, each contiguous.
//
// One thread, one lane at a time. Allocates once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "rdma/verbs.h"

namespace faultline::rdma {

/// Room for pieces in the order of a ring; the arithmetic alone.
class RingSpace {
 public:
  explicit RingSpace(uint64_t size) : size_(size) {}

  struct Piece {
    uint64_t offset = 0;  ///< in the ring
    uint64_t end = 0;     ///< for GiveBack
  };
  /// Contiguous room for `bytes`; nothing if there is none now.
  [[nodiscard]] std::optional<Piece> Fit(uint64_t bytes) const;
  /// Takes what Fit said.
  void Take(const Piece& piece) { taken_ = piece.end; }
  /// Pieces are given back in the order in which they were taken.
  void GiveBack(const Piece& piece) { given_ = piece.end; }
  void Clear() { given_ = taken_; }

 private:
  uint64_t size_;
  uint64_t taken_ = 0;  ///< bytes ever taken, what was skipped at the end of the ring included
  uint64_t given_ = 0;
};

class LandingPool {
 public:
  /// Locked and faulted in here: nothing waits for it later. `domain` outlives the pool.
  static Result<std::unique_ptr<LandingPool>> Create(ibv_pd& domain, ByteCount bytes);
  LandingPool(const LandingPool&) = delete;
  LandingPool& operator=(const LandingPool&) = delete;
  ~LandingPool();

  [[nodiscard]] RingSpace& space() { return space_; }
  [[nodiscard]] const RingSpace& space() const { return space_; }
  [[nodiscard]] std::span<std::byte> BytesAt(uint64_t offset, size_t bytes) const {
    return memory_.subspan(offset, bytes);
  }
  [[nodiscard]] uint32_t key() const { return region_->lkey; }
  [[nodiscard]] ByteCount bytes() const { return ByteCount(memory_.size()); }

 private:
  explicit LandingPool(std::span<std::byte> memory) : memory_(memory), space_(memory.size()) {}

  const std::span<std::byte> memory_;  ///< ours, mapped
  MemoryRegion region_;
  RingSpace space_;
};

/// Takes what has landed in a pool: writes it into the guest's RAM file.
class PageSink {
 public:
  virtual ~PageSink() = default;
  /// False: the file cannot take it (no memory left). Never blocks for the network.
  virtual bool Write(PageRun run, std::span<const std::byte> bytes) = 0;
};

}  // namespace faultline::rdma
