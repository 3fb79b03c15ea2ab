#include "engine/core/early_landing.h"

#include "engine/core/check.h"

namespace faultline {

void EarlyLanding::Land(PageRun run, std::span<const std::byte> bytes) {
  FAULTLINE_CHECK(bytes.size() == parts_.geometry.BytesOf(run).value());
  const PageRun claimed = parts_.ledger.ClaimPrefix(run);
  if (claimed.empty()) return;
  if (write_(claimed, bytes.first(parts_.geometry.BytesOf(claimed).value()))) {
    landing_.CompleteEarly(claimed);
  } else {
    landing_.GiveBack(claimed);
  }
}

void EarlyLanding::Keep(PageRun run) {
  for (PageIndex page = run.first; page < run.end();) {
    const PageRun piece = parts_.geometry.RequestableFrom(page, run.end());
    const PageRun claimed = parts_.ledger.ClaimEarlyPrefix(piece);
    if (!claimed.empty()) landing_.Complete({.run = claimed});
    page = claimed.empty() ? page + PageCount(1) : claimed.end();
  }
}

}  // namespace faultline
