#include "tests/qemu/relay.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <vector>

namespace faultline::test {

Relay::Relay(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, source_), 0);
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, destination_), 0);
  const int narrow = 4096;
  if (bytes_per_second > 0) {
    EXPECT_EQ(setsockopt(source_[1], SOL_SOCKET, SO_SNDBUF, &narrow, sizeof narrow), 0);
  }
  thread_ = std::thread([this] { Carry(); });
}

Relay::~Relay() {
  Cut();
  CloseEnds();
  close(source_[0]);
  close(destination_[0]);
}

void Relay::CloseEnds() {
  for (int* end : {&source_[1], &destination_[1]}) {
    if (*end >= 0) close(*end);
    *end = -1;
  }
}

void Relay::Cut() {
  stop_ = true;
  shutdown(source_[0], SHUT_RDWR);
  shutdown(destination_[0], SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
}

void Relay::Carry() {
  while (!stop_) {
    std::array<pollfd, 2> entries = {{{source_[0], POLLIN, 0}, {destination_[0], POLLIN, 0}}};
    if (poll(entries.data(), entries.size(), 100) <= 0) continue;
    if (entries[0].revents != 0 && !CarryOne(source_[0], destination_[0])) break;
    if (entries[1].revents != 0 && !CarryOne(destination_[0], source_[0])) break;
  }
  // One side has ended: so does the other.
  shutdown(source_[0], SHUT_RDWR);
  shutdown(destination_[0], SHUT_RDWR);
}

bool Relay::CarryOne(int from, int to) {
  static thread_local std::vector<char> buffer(256 * 1024);
  const size_t piece = bytes_per_second_ > 0 ? 4096 : buffer.size();
  const ssize_t got = recv(from, buffer.data(), piece, 0);
  if (got <= 0) return false;
  if (from == source_[0]) bytes_forward_ += static_cast<uint64_t>(got);
  if (bytes_per_second_ > 0) {
    const auto micros = static_cast<uint64_t>(got) * 1'000'000 / bytes_per_second_;
    std::this_thread::sleep_for(std::chrono::microseconds(micros));
  }
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t now =
        send(to, buffer.data() + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
    if (now <= 0) return false;
    sent += now;
  }
  return true;
}

}  // namespace faultline::test
