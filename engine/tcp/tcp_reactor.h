// A Reactor that can open page lanes on itself: on io_uring, or on epoll where a site has
// disabled io_uring (kernel.io_uring_disabled, seccomp). Same interface, same tests.
//
// Threads: made anywhere, used by one thread: the first that waits. Lanes are closed on that
// thread, or after it has ended (the kernel cancels what a thread left on a ring as it exits).
#pragma once

#include <memory>
#include <string_view>

#include "engine/core/landing_area.h"
#include "engine/core/page_channel.h"
#include "engine/core/reactor.h"
#include "engine/core/result.h"
#include "engine/tcp/socket.h"
#include "engine/tcp/unique_fd.h"

namespace faultline {

class Unpacker;

enum class IoBackend : uint8_t { kInvalid = 0, kUring = 1, kEpoll = 2 };
std::string_view Name(IoBackend backend);

/// How often a Wait looks whether a lane is silent.
inline constexpr Nanos kSilenceCheckPeriod = std::chrono::milliseconds(250);

/// How long a Wait looks for a reply before it sleeps, where the source looks for requests.
inline constexpr Nanos kReplyLookFor = std::chrono::microseconds(40);

class TcpReactor : public Reactor {
 public:
  /// A page lane, destination side, over a connected blocking socket whose preamble has been
  /// exchanged. Reports ReadyToken::kLane. `area` (this lane's alone) and the reactor outlive it.
  /// Allocates here and never afterwards. The lane breaks when requests are outstanding and no
  /// byte has come for `silence_max`: a peer whose kernel lives but whose process does not answer.
  /// `unpacker`, this lane's alone, outlives it: runs are asked for as its policy says.
  /// REQUIRES: fewer than kLanesMax lanes are open.
  virtual std::unique_ptr<PageChannel> OpenLane(tcp::UniqueFd socket, LandingArea& area,
                                                Nanos silence_max = kPeerSilenceMax,
                                                Unpacker* unpacker = nullptr) = 0;
  [[nodiscard]] virtual IoBackend backend() const = 0;

  static constexpr size_t kLanesMax = 4;
};

enum class IoPreference : uint8_t {
  kBest = 1,  ///< io_uring if the kernel lets us, else epoll
  kUring,     ///< an error if io_uring is not to be had
  kEpoll,
};

/// Of a fault thread with a lane of READs: a ring's merit is in sends and receives, of which there
/// are next to none, and to be woken by one costs more than by epoll (perf/HISTORY.md, READs).
inline constexpr IoPreference kBestBesideReads = IoPreference::kEpoll;

Result<std::unique_ptr<TcpReactor>> MakeReactor(IoPreference preference = IoPreference::kBest);

}  // namespace faultline
