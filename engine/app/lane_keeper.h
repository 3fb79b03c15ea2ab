// Keeps one page lane of the source up: dials, introduces itself, serves, and when the lane ends
// dials again with backoff, for as long as the session lives. The destination asks again for what
// the old lane owed; the source remembers nothing.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/core/page_server.h"
#include "engine/core/result.h"
#include "engine/tcp/lane_server.h"
#include "engine/tcp/preamble.h"
#include "engine/tcp/socket.h"

namespace faultline {

class LaneKeeper {
 public:
  using MakeServer = std::function<std::unique_ptr<PageServer>()>;

  /// Dials the first time and waits for it: an error here is an error of the migration. `cores` are
  /// shared by all lanes of the migration and outlive them.
  static Result<std::unique_ptr<LaneKeeper>> Create(Endpoint to, LaneIntroduction lane,
                                                    MakeServer make_server, FaultCores& cores);
  LaneKeeper(const LaneKeeper&) = delete;
  LaneKeeper& operator=(const LaneKeeper&) = delete;
  ~LaneKeeper() { Stop(); }

  /// Ends the lane and joins. May be called again.
  void Stop();
  /// How often the lane had to be dialled again.
  [[nodiscard]] uint64_t redials() const;

 private:
  static constexpr Nanos kBackoffFirst = std::chrono::milliseconds(20);
  static constexpr Nanos kBackoffMax = std::chrono::seconds(1);

  LaneKeeper(Endpoint to, LaneIntroduction lane, MakeServer make_server, FaultCores& cores);
  Status Open();
  Status Greet(const Connection& connection);
  void Run();
  bool Pause(Nanos duration);
  bool AwaitEnd();

  const Endpoint to_;
  LaneIntroduction lane_;  ///< the keeper's thread's; the generation counts up
  const MakeServer make_server_;
  FaultCores& cores_;
  std::unique_ptr<LaneServer> server_;

  mutable std::mutex mutex_;  ///< guards all below
  std::condition_variable changed_;
  bool server_ended_ = false;
  bool stopping_ = false;
  uint64_t redials_ = 0;
  int greeting_ = -1;   ///< the socket whose peer has not answered yet, for Stop() to end the wait
  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace faultline
