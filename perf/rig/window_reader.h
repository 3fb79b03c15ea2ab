// Guest RAM that is nothing but memory of this process, all of it there.
#pragma once

#include <cstring>
#include <span>

#include "engine/core/geometry.h"
#include "engine/core/source_memory.h"

namespace faultline::rig {

/// `window` outlives it.
class WindowReader final : public PageReader {
 public:
  explicit WindowReader(const RamWindow& window) : window_(window) {}
  bool Read(PageRun run, std::span<std::byte> out) override {
    std::memcpy(out.data(), window_.BytesOf(run).data(), out.size());
    return true;
  }

 private:
  const RamWindow& window_;
};

}  // namespace faultline::rig
