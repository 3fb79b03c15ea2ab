// A connected UNIX stream socket with bounded waits, and file descriptors passed along (unix(7)).
#pragma once

#include <string>
#include <string_view>

#include "engine/core/result.h"
#include "engine/core/units.h"

namespace faultline {

/// Owns the descriptor. Deadlines are points of CLOCK_MONOTONIC. One thread.
class UnixSocket {
 public:
  static Result<UnixSocket> Connect(const std::string& path, Nanos deadline);
  ~UnixSocket();
  UnixSocket(UnixSocket&& other) noexcept;
  UnixSocket(const UnixSocket&) = delete;
  UnixSocket& operator=(const UnixSocket&) = delete;

  /// Sends all of `bytes`, and a duplicate of `passed_fd` with the first of them unless it is -1.
  Status Send(std::string_view bytes, int passed_fd, Nanos deadline);
  /// Appends what there is, at least one byte. kPeer: the other side closed.
  Status Receive(std::string& input, Nanos deadline);
  /// Of the process that called listen(); 0 if it lives in another pid namespace.
  [[nodiscard]] int PeerPid() const;

 private:
  explicit UnixSocket(int fd) : fd_(fd) {}
  [[nodiscard]] Status WaitFor(short events, Nanos deadline) const;

  int fd_;
};

}  // namespace faultline
