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

/// One bit per page: known to have memory. Set while the guest runs and after it has stopped,
/// never cleared: a page punched meanwhile reads as zero all the same.
/// Threads: any.
class PresenceMap {
 public:
  explicit PresenceMap(PageCount pages);
  void MarkPresent(PageRun run);
  [[nodiscard]] bool IsPresent(PageIndex page) const;
  [[nodiscard]] PageCount CountPresent() const;

 private:
  std::unique_ptr<std::atomic<uint64_t>[]> words_;
  size_t word_count_;
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
  /// Whether `page`, which is present, is read through the mapping for less than by a call: where
  /// one page fault maps a huge page of them. Any thread.
  [[nodiscard]] virtual bool MapsMany(PageIndex) const { return false; }
  /// Fills `out` (whole pages) with the content of `run`. Never allocates guest memory.
  /// False: the file could not be read. Any thread.
  virtual bool Read(PageRun run, std::span<std::byte> out) = 0;
};

}  // namespace faultline
