// The destination's one port: accepts connections, reads what they want, and hands each to the
// session. Runs for the whole migration, so that lanes can be dialled again.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "engine/core/result.h"
#include "engine/tcp/preamble.h"
#include "engine/tcp/socket.h"

namespace faultline {

class LaneAcceptor {
 public:
  /// Both run on the acceptor's thread, one connection at a time.
  struct Callbacks {
    /// Whether the connection is wanted. Anything but kAccepted closes it.
    std::function<wire::PreambleStatus(const LaneIntroduction&)> judge;
    /// An accepted connection; the peer has been told so.
    std::function<void(const LaneIntroduction&, Connection)> take;
  };

  LaneAcceptor(Listener listener, Callbacks callbacks);
  LaneAcceptor(const LaneAcceptor&) = delete;
  LaneAcceptor& operator=(const LaneAcceptor&) = delete;
  ~LaneAcceptor() { Stop(); }

  /// Closes the port to newcomers and joins. May be called again.
  void Stop();
  [[nodiscard]] const Endpoint& endpoint() const { return listener_.endpoint(); }

 private:
  static constexpr Nanos kAcceptSlice = std::chrono::milliseconds(100);

  void Run();
  void Welcome(Connection connection);

  Listener listener_;
  const Callbacks callbacks_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
