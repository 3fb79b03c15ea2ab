// One end of `perf/bulk`: options, and the three kinds of run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/app/summary.h"
#include "engine/core/result.h"
#include "engine/tcp/socket.h"
#include "perf/bulk_guest.h"

namespace faultline::bulk {

struct Options {
  Endpoint peer;  ///< where to listen, or to dial
  ByteCount bytes{uint64_t{512} << 20};
  uint32_t streams = 2;
  bool raw = false;                 ///< the pipeline without the engine
  bool compressible = false;        ///< what the source's memory holds
  std::optional<ByteCount> window;  ///< none: follows the link
  wire::Compression compression = wire::Compression::kOff;
  std::string state_dir = "/tmp";
  BulkGuest::Load load;
};

/// What the destination measured.
struct Figures {
  Nanos elapsed{};      ///< first request → last page placed
  double cpu_s = 0;     ///< of the destination, meanwhile
  SummaryJson summary;  ///< the destination's part of the engine's own
};

/// Serves what the destination asks for, or with `raw` sends everything; returns when it is over.
/// The processor time that it took, in seconds.
Result<double> RunSource(const Options& options);
/// Both measure from the moment when all is connected. The guest is idle before and after.
Result<Figures> RunEngine(const Options& options, Listener& listener, BulkGuest& guest);
Result<Figures> RunRaw(const Options& options, Listener& listener, BulkGuest& guest);

/// The raw pipeline's unit, and which stream carries which: one after the other, in turn.
inline constexpr uint64_t kChunkBytes = uint64_t{256} << 10;

}  // namespace faultline::bulk
