// The source of a measurement: a process of its own, so that what it costs can be told from what
// the destination costs. It serves one region of memory over READs and over TCP lanes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "engine/core/rdma_wire.h"
#include "engine/core/units.h"
#include "rdma/dial.h"

namespace faultline::bench {

/// The first word of every page.
constexpr uint64_t PatternOf(uint64_t page) { return (page + 1) * 0x9E3779B97F4A7C15; }

class SourceProcess {
 public:
  struct Offer {
    uint16_t port;           ///< queue pairs
    wire::RdmaRegion pages;  ///< all of the memory
    Nanos registration;      ///< what registering it took
    Nanos registration_cpu;
  };

  /// Forks: before anything of RDMA is used, and before there are threads. `host`: of the device.
  SourceProcess(const std::string& host, PageCount pages);
  SourceProcess(const SourceProcess&) = delete;
  SourceProcess& operator=(const SourceProcess&) = delete;
  ~SourceProcess();

  [[nodiscard]] const Offer& offer() const { return offer_; }
  [[nodiscard]] static wire::MigrationId migration() { return {}; }
  [[nodiscard]] rdma::DialPlan dial_plan() const {
    return {.host = host_, .port = offer_.port, .from_host = host_};
  }
  /// User and system time of the source's process so far.
  [[nodiscard]] Nanos CpuTime();
  /// The source dials this port of 127.0.0.1 and serves a page lane on the connection.
  void ServeOverTcp(uint16_t port);

 private:
  enum class Command : uint32_t { kCpuTime = 1, kServe };
  [[noreturn]] static void Run(int control, const std::string& host, PageCount pages);
  uint64_t Ask(Command command, uint32_t argument);

  const std::string host_;
  int control_ = -1;  ///< a socket pair's end
  pid_t pid_ = -1;
  Offer offer_{};
};

}  // namespace faultline::bench
