// A QMP client: QEMU's control socket, commands one by one or several at once, events kept until
// asked for.
//
// Threads: one. Every call is bounded by its timeout. Never used on the fault path: QEMU's main
// thread may itself be blocked in a page fault. The protocol: docs/interop/qmp-spec.rst in QEMU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/units.h"
#include "qemu-integration/unix_socket.h"

namespace faultline {

using Json = nlohmann::json;

struct QmpEvent {
  std::string name;  ///< "STOP", "MIGRATION", …; unknown ones are kept like the others
  Json data;
  int64_t host_micros = 0;  ///< QEMU's own wall clock, µs since the epoch; 0 if it sent none
};

struct QmpCommand {
  std::string_view name;
  Json arguments = Json::object();
};

/// A command of the human monitor; its answer is text.
QmpCommand HumanCommand(std::string_view command_line);

inline constexpr Nanos kQmpConnectTimeout = std::chrono::seconds(5);
inline constexpr Nanos kQmpCommandTimeout = std::chrono::seconds(10);
/// The longest message accepted. qom-list and query-qmp-schema stay far below.
inline constexpr size_t kQmpMessageBytesMax = size_t{4} << 20;
/// Events beyond this push out the oldest: every wait also asks QEMU for its state.
inline constexpr size_t kQmpEventsMax = 256;

class QmpClient {
 public:
  /// Connects and negotiates. Errors: kRefused if nothing that speaks QMP is there, kTimeout if it
  /// stays silent (QEMU serves one client at a time; a second one connects and hears nothing).
  static Result<std::unique_ptr<QmpClient>> Connect(std::string path,
                                                    Nanos timeout = kQmpConnectTimeout);
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  /// Runs one command and gives its "return". Errors: kRefused with QEMU's own words; kTimeout
  /// (the late reply is dropped when it comes); kPeer if the connection is gone or not QMP.
  Result<Json> Execute(std::string_view command, const Json& arguments = Json::object(),
                       Nanos timeout = kQmpCommandTimeout);
  /// Runs commands of which none depends on another: all are sent before the first is answered.
  /// QEMU takes one after the other (handle_qmp_command), but its main thread, which may have to
  /// share a processor with the guest, need not be woken for each. The answers in the same order,
  /// QEMU's refusals among them; every other error of Execute's is the whole call's.
  Result<std::vector<Result<Json>>> ExecuteAll(const std::vector<QmpCommand>& commands,
                                               Nanos timeout = kQmpCommandTimeout);
  /// Sends a command but for its last byte: Execute of the same one then has no more to send. For
  /// what will be urgent: QEMU reads a command byte by byte, with a poll and a recvmsg for each
  /// (monitor_can_read), 3 to 16 µs. One at a time; any other command takes it back first.
  Status Prepare(std::string_view command, const Json& arguments = Json::object());
  /// Runs a HumanCommand.
  Result<std::string> Human(std::string_view command_line);

  /// Duplicates `fd` into QEMU under `name` (getfd, SCM_RIGHTS); `fd` stays the caller's. QEMU's
  /// copy lives until CloseFd or until a command that takes "fd:NAME" consumes it.
  Status PassFd(const std::string& name, int fd);
  Status CloseFd(const std::string& name);

  using EventFilter = std::function<bool(const QmpEvent&)>;
  /// The first kept or arriving event that passes, taken out of the queue; the others stay.
  Result<QmpEvent> WaitEvent(const EventFilter& filter, Nanos timeout);
  Result<QmpEvent> WaitEvent(std::string_view name, Nanos timeout);
  void ForgetEvents() { events_.clear(); }

  /// The connection is of no more use: Connect again.
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// SO_PEERCRED: who called listen(). QEMU, unless a manager passed it the socket.
  [[nodiscard]] int peer_pid() const { return peer_pid_; }
  /// "7.2.22"
  [[nodiscard]] const std::string& qemu_version() const { return version_; }
  [[nodiscard]] int qemu_major() const { return major_; }

 private:
  QmpClient(std::string path, UnixSocket socket);

  Status Negotiate(Nanos deadline);
  Result<Json> Greeting(Nanos deadline);
  Result<Json> ExecuteWithFd(std::string_view command, const Json& arguments, int fd,
                             Nanos timeout);
  /// Sends it, or what Prepare has left of it.
  Status Begin(std::string_view command, const Json& arguments, int fd, Nanos deadline);
  Status Send(std::string_view command, std::string_view text, int fd, Nanos deadline);
  Status TakeBack(Nanos deadline);
  /// The answer to the command `id`, of which `timeout` ends at `deadline`.
  Result<Json> Reply(std::string_view command, uint64_t id, Nanos timeout, Nanos deadline);
  Result<Json> NextMessage(Nanos deadline);
  void Keep(const Json& message);
  tl::unexpected<Error> Broken(ErrorKind kind, const std::string& what);

  std::string path_;
  UnixSocket socket_;
  int peer_pid_ = 0;
  std::string version_;
  int major_ = 0;
  uint64_t last_id_ = 0;
  std::string prepared_;    ///< the whole command, of which QEMU lacks the last byte; or none
  int errors_to_drop_ = 0;  ///< QEMU's answers to what was taken back
  bool broken_ = false;
  std::string input_;    ///< received, not yet a whole line
  size_t searched_ = 0;  ///< of input_, known to hold no newline
  std::deque<QmpEvent> events_;
};

}  // namespace faultline
