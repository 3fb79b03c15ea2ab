// Whatever a peer sends on a page lane, the server answers within guest RAM or refuses.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/core/check.h"
#include "engine/core/page_server.h"

namespace faultline {
namespace {

constexpr size_t kPageBytes = 4096;
alignas(64) std::array<std::byte, 72 * kPageBytes> memory;

class ZeroFile final : public PageReader {
 public:
  bool Read(PageRun, std::span<std::byte> out) override {
    std::memset(out.data(), 0, out.size());
    return true;
  }
};

void CheckPlan(const ReplyPlan& plan) {
  size_t bytes = 0;
  for (size_t i = 0; i < plan.segment_count; ++i) bytes += plan.segments[i].size();
  const auto pages = static_cast<size_t>(__builtin_popcountll(plan.header.data_pages));
  FAULTLINE_CHECK(bytes == pages * kPageBytes && plan.data_bytes.value() == bytes);
  for (size_t i = 0; i < plan.segment_count; ++i) {
    const std::byte* start = plan.segments[i].data();
    const bool inside =
        start >= memory.data() && start + plan.segments[i].size() <= memory.data() + memory.size();
    FAULTLINE_CHECK(inside);
  }
}

PageServer& Server() {
  static const Geometry geometry =
      Geometry::Create({{"a", ByteCount(70 * kPageBytes), PageSize(kPageBytes)},
                        {"b", ByteCount(2 * kPageBytes), PageSize(kPageBytes)}})
          .value();
  static const auto base = reinterpret_cast<uint64_t>(memory.data());
  static const RamWindow window(geometry, {HostAddr(base), HostAddr(base + 70 * kPageBytes)});
  static PresenceMap presence(geometry.page_count());
  static ZeroFile file;
  static PageServer server(window, presence, file);
  static const bool filled = [] {
    for (size_t page = 0; page < 72; page += 2) memory[page * kPageBytes] = std::byte{1};
    presence.MarkPresent({PageIndex(0), PageCount(50)});
    return true;
  }();
  FAULTLINE_CHECK(filled);
  return server;
}

}  // namespace
}  // namespace faultline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  faultline::wire::PageRequest request{};
  if (size < sizeof(request)) return 0;
  std::memcpy(&request, data, sizeof(request));
  static faultline::ReplyPlan plan;
  if (faultline::Server().Plan(request, plan)) faultline::CheckPlan(plan);
  return 0;
}
