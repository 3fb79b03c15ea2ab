// What the engine's control lane is to the device state: bytes carried between two sockets, both
// ways, until told to stop or cut.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace faultline::test {

class Relay {
 public:
  /// As slow as a link of that many bytes a second, with buffers of a few KiB; 0 is no limit.
  explicit Relay(uint64_t bytes_per_second = 0);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  /// The ends for the two QEMUs; they stay the relay's.
  [[nodiscard]] int source_end() const { return source_[1]; }
  [[nodiscard]] int destination_end() const { return destination_[1]; }
  /// Once both QEMUs have their copies: only then does the end of one show here.
  void CloseEnds();
  /// Both streams break, as when the network or the peer has gone.
  void Cut();
  [[nodiscard]] uint64_t bytes_forward() const { return bytes_forward_; }

 private:
  void Carry();
  bool CarryOne(int from, int to);

  const uint64_t bytes_per_second_;
  int source_[2];
  int destination_[2];
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> bytes_forward_{0};
  std::thread thread_;
};

}  // namespace faultline::test
