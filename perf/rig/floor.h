// What the machine itself needs for the parts of a demand fetch, measured with as little as
// possible around them: the floor that the engine is compared with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace faultline::rig {

/// Where the guest's thread stays, and the handler with it.
inline constexpr int kGuestCpu = 0;

/// The guest: as that of the engine beside it.
struct FloorGuest {
  uint64_t bytes = uint64_t{1} << 30;  ///< a power of two, one region; no fewer pages than touches
  bool huge = true;                    ///< as GuestPlan::huge
};

/// A guest thread touches pages that are in the page cache and not mapped (MINOR faults); a handler
/// on the same core reads each message and answers with CONTINUE. ns per touch, seen by the guest.
std::vector<uint32_t> UserfaultRoundTrips(FloorGuest guest, uint32_t touches);

/// 16 bytes to another process over loopback TCP, a page back.
enum class PingMode { kSameCore, kTwoCores, kTwoCoresSpinning };
inline constexpr PingMode kPingModes[] = {PingMode::kSameCore, PingMode::kTwoCores,
                                          PingMode::kTwoCoresSpinning};
std::string NameOf(PingMode mode);
std::vector<uint32_t> PingPongs(uint32_t count, PingMode mode);

/// Both in one loop, the least that any engine does: the handler reads a message, has the page sent
/// and received into memory that is there already, and answers with CONTINUE. ns per touch.
std::vector<uint32_t> RawFetches(FloorGuest guest, uint32_t touches, PingMode mode);

}  // namespace faultline::rig
