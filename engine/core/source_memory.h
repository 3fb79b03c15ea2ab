// The guest's RAM at the source, as the page server reads it, without ever inflating a sparse
// file: pages known to be present are read through the mapping, all others through a read call
// that returns zeroes for a hole and allocates nothing (pread; a load through the mapping of a
// shmem or hugetlbfs hole would allocate it).
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "engine/core/geometry.h"
#include "engine/core/units.h"

namespace faultline {

/// One bit per page: known to have memory. Marked while the guest runs; a page punched meanwhile
/// stays marked, and reads as zero all the same. Final once the guest has stopped.
/// Threads: any.
class PresenceMap {
 public:
  explicit PresenceMap(PageCount pages);
  void MarkPresent(PageRun run);
  /// The guest has stopped: exactly `data` (rising, not overlapping) has memory. Once.
  void Finish(std::span<const PageRun> data);
  [[nodiscard]] bool is_final() const { return final_.load(std::memory_order_acquire); }
  [[nodiscard]] bool IsPresent(PageIndex page) const;
  [[nodiscard]] PageCount CountPresent() const;

 private:
  void Clear(PageRun run);
  template <class Change>
  void ForEachWord(PageRun run, Change change);

  std::unique_ptr<std::atomic<uint64_t>[]> words_;
  size_t word_count_;
  PageCount pages_;
  std::atomic<bool> final_{false};
};

/// Where pages lie in their file. The descriptor stays its owner's.
struct FilePlace {
  int fd = -1;
  ByteCount offset{};
};

/// Guest RAM by its files: reads pages that are not known to be present, and tells a transport
/// where the others lie. Implemented by uffd/guest_ram.h.
class PageReader {
 public:
  virtual ~PageReader() = default;
  /// Where `run` (within a region) starts in a file that can be sent from without copying
  /// (sendfile); nothing if it cannot. Any thread.
  [[nodiscard]] virtual std::optional<FilePlace> PlaceOf(PageRun) const { return std::nullopt; }
  /// Whether `page`, if it has memory, is read through the mapping for less than by a call: where
  /// one page fault maps a huge page of them. Any thread.
  [[nodiscard]] virtual bool MapsMany(PageIndex) const { return false; }
  /// Fills `out` (whole pages) with the content of `run`. Never allocates guest memory.
  /// False: the file could not be read. Any thread.
  virtual bool Read(PageRun run, std::span<std::byte> out) = 0;
};

}  // namespace faultline
