// Mapping pages of private (anonymous) guest memory: no alias can reach it, so bytes land in
// staging memory of ours and UFFDIO_COPY carries them over. For VMMs other than QEMU, and for
// comparison; shared memory and CONTINUE place at 2.5 times the rate.
//
// Staging is memory only between landing and placing: a placed page's is given back at once.
#pragma once

#include <vector>

#include "engine/core/geometry.h"
#include "engine/core/page_placer.h"
#include "uffd/alias_mapping.h"
#include "uffd/userfault_fd.h"

namespace faultline {

class UffdCopyPlacer final : public PagePlacer {
 public:
  /// All outlive the placer. Ranges are registered with UffdMode::kMissing.
  static Result<UffdCopyPlacer> Create(const UserfaultFd& uffd, const VmmMap& vmm);

  /// Where the transport lands bytes.
  [[nodiscard]] const RamWindow& staging() const { return staging_; }

  PlaceResult MapHeld(PageRun run) override;
  PlaceResult MapZero(PageRun run) override;
  /// Private memory has no page cache: only a discarded page can be missing again.
  PlaceResult MapAgain(PageRun run) override { return MapZero(run); }
  void Empty(PageRun run) override;
  void Wake(PageRun run) override;
  /// What is Held lies in staging memory, where no kernel looks for it.
  void Retire(PageRun) override {}

 private:
  UffdCopyPlacer(const UserfaultFd& uffd, const VmmMap& vmm, std::vector<AliasMapping> memory);
  enum class Way : uint8_t { kCopy = 1, kZero };
  PlaceResult Map(PageRun run, Way way);
  [[nodiscard]] UffdProgress Try(PageRun run, Way way) const;

  const UserfaultFd* uffd_;
  const VmmMap* vmm_;
  std::vector<AliasMapping> memory_;
  RamWindow staging_;
};

}  // namespace faultline
