// Owns one file descriptor of this folder: a socket, a ring, an epoll, an eventfd.
//
// In a namespace of its own because the folders that cannot see each other each own descriptors.
#pragma once

#include <unistd.h>

#include <utility>

namespace faultline::tcp {

class UniqueFd {
 public:
  constexpr UniqueFd() = default;
  explicit constexpr UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  /// Gives the descriptor to the caller, who closes it.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }
  /// Closes. close() is not retried: on Linux the descriptor is gone even after EINTR (close(2)).
  void Reset(int fd = -1) {
    const int old = std::exchange(fd_, fd);
    if (old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace faultline::tcp
