// Whatever a peer sends on the control lane is decoded or refused, and what is decoded is sane.
#include <cstddef>
#include <cstdint>

#include "engine/core/check.h"
#include "engine/core/wire_codec.h"

namespace faultline::wire {
namespace {

void Decode(uint8_t kind, ByteView body) {
  static const Geometry geometry =
      Geometry::Create({{"ram0", ByteCount(100 * 4096), PageSize(4096)},
                        {"huge0", ByteCount(4 << 21), PageSize(1 << 21)}})
          .value();
  switch (kind % 7) {
    case 0:
      if (const auto hello = DecodeHello(body)) {
        FAULTLINE_CHECK(EncodeHello(*hello).size() == body.size());
        FAULTLINE_CHECK(hello->geometry.page_count().value() > 0);
      }
      return;
    case 1:
      if (const auto runs = DecodeRuns(body, geometry)) {
        PageIndex end(0);
        for (const PageRun& run : *runs) {
          FAULTLINE_CHECK(run.first >= end && !run.empty());
          FAULTLINE_CHECK(geometry.pages_of(geometry.RegionOf(run.first)).end() >= run.end());
          end = run.end();
        }
      }
      return;
    case 2:
      if (const auto progress = DecodeProgress(body)) {
        FAULTLINE_CHECK(progress->missing_pages <= progress->total_pages);
      }
      return;
    case 3:
      if (const auto welcome = DecodeWelcome(body)) {
        FAULTLINE_CHECK(welcome->urgent_lanes >= 1 && welcome->urgent_lanes <= kUrgentLanesMax);
      }
      return;
    case 4:
      if (const auto early = DecodeEarlyPages(body, geometry)) {
        FAULTLINE_CHECK(geometry.IsRequestable(early->run));
        FAULTLINE_CHECK(geometry.BytesOf(early->run).value() == early->bytes.size());
      }
      return;
    case 5:
      if (const auto text = DecodeText(body)) FAULTLINE_CHECK(text->size() == body.size());
      return;
    default:
      if (const auto header = DecodeFrameHeader(body)) {
        FAULTLINE_CHECK(header->length <= kFrameBytesMax);
        FAULTLINE_CHECK(Name(static_cast<FrameType>(header->type)) != "Unknown");
      }
  }
}

}  // namespace
}  // namespace faultline::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  faultline::wire::Decode(data[0], bytes.subspan(1));
  return 0;
}
