// The destination's one port: accepts connections, reads what they want, and hands each to the
// session. Runs for the whole migration, so that lanes can be dialled again.
//
// Whoever connects and stays silent costs nobody anything: greetings are read as they come, a
// stranger is dropped after a while, and at most kStrangersMax are kept.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

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
  static constexpr size_t kStrangersMax = 16;

  LaneAcceptor(Listener listener, Callbacks callbacks);
  LaneAcceptor(const LaneAcceptor&) = delete;
  LaneAcceptor& operator=(const LaneAcceptor&) = delete;
  ~LaneAcceptor() { Stop(); }

  /// Closes the port and joins. May be called again.
  void Stop();
  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }

 private:
  static constexpr Nanos kSlice = std::chrono::milliseconds(100);

  /// Connected, and its greeting has not come yet.
  struct Stranger {
    Connection connection;
    Nanos until;
  };

  void Run();
  [[nodiscard]] bool AwaitNews() const;
  void Accept();
  void HearStrangers();
  void Welcome(Connection connection);

  std::optional<Listener> listener_;
  const Endpoint endpoint_;
  const Callbacks callbacks_;
  std::vector<Stranger> strangers_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
