// What the command line says, checked, in the engine's own types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline {

/// Exit codes are a contract (README): others script against them.
enum class ExitCode : int {
  kDone = 0,
  kNothingChanged = 1,  ///< failed; the source's guest runs on
  kUsage = 2,
  kPaused = 3,  ///< the migration is paused and can be resumed
};

struct CommonOptions {
  std::string qmp_path;
  int pid = 0;  ///< 0: the peer of the QMP socket
  std::string state_dir = "/run/faultline";
  std::string json_path;    ///< empty: none
  std::string io = "auto";  ///< auto | uring | epoll
  bool quiet = false;
  bool verbose = false;
};

/// How pages cross the network.
enum class Transport : uint8_t {
  kAuto = 1,  ///< by RDMA where both sides can, else over TCP
  kRdma,      ///< by RDMA, or not at all (single pages may still come over TCP)
  kTcp,
};

struct RdmaOptions {
  Transport transport = Transport::kAuto;
  std::string device;  ///< empty: whichever leads to the other side
  uint16_t port = 0;   ///< `migrate`: where queue pairs are accepted; 0: any
  uint8_t urgent_type_of_service = 0;
  uint8_t bulk_type_of_service = 0;
};

struct CheckOptions {
  CommonOptions common;
  bool destination = false;  ///< check a QEMU that is to receive
};

struct ReceiveOptions {
  CommonOptions common;
  std::string listen;
  std::optional<ByteCount> window;  ///< bulk bytes in flight, all streams; none: as the link wants
  uint32_t fault_shards = 0;        ///< 0: by the number of processors
  bool insecure = false;
  RdmaOptions rdma;
};

/// By this host's processors, which are all that is known of either. Of two the urgent lane has
/// one, and two lanes' threads would only take turns on the other. Measured where both ends share
/// the two.
inline uint32_t UsualStreams() { return std::thread::hardware_concurrency() > 2 ? 2 : 1; }

struct MigrateOptions {
  CommonOptions common;
  std::string to;
  uint64_t bulk_bytes_per_second = 0;  ///< 0: no limit
  uint32_t streams = UsualStreams();
  wire::Compression compression = wire::Compression::kAuto;
  bool insecure = false;
  bool quit_source = false;
  RdmaOptions rdma{.transport = Transport::kTcp, .device = {}};
};

}  // namespace faultline
