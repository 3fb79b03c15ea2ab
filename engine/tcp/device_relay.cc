#include "engine/tcp/device_relay.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/core/check.h"
#include "engine/core/wire.h"

namespace faultline {
namespace {

static_assert(DeviceRelay::kReadBytes <= wire::kFrameBytesMax);

bool NotNow() { return errno == EAGAIN || errno == EINTR; }

tl::unexpected<Error> StreamFailed(std::string_view doing) {
  return Fail(ErrorKind::kSystem,
              fmt::format("device state: {} QEMU: {}", doing, std::strerror(errno)));
}

}  // namespace

Result<std::unique_ptr<DeviceRelay>> DeviceRelay::Create(tcp::UniqueFd stream, ControlLane& lane) {
  FAULTLINE_CHECK(stream.valid());
  tcp::UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup.valid()) {
    return Fail(ErrorKind::kSystem,
                fmt::format("device state: making an eventfd: {}", std::strerror(errno)));
  }
  return std::unique_ptr<DeviceRelay>(new DeviceRelay(std::move(stream), std::move(wakeup), lane));
}

DeviceRelay::DeviceRelay(tcp::UniqueFd stream, tcp::UniqueFd wakeup, ControlLane& lane)
    : stream_(std::move(stream)),
      wakeup_(std::move(wakeup)),
      lane_(lane),
      read_buffer_(kReadBytes) {
  thread_ = std::thread([this] { Run(); });
}

DeviceRelay::~DeviceRelay() { Stop(); }

Status DeviceRelay::Deliver(std::span<const std::byte> body) {
  {
    const std::lock_guard lock(mutex_);
    if (done_ && !result_.has_value()) return result_;
    if (done_ || end_delivered_) {
      return Fail(ErrorKind::kPeer, "device state: more arrived after its end");
    }
    if (queue_bytes_ + body.size() > kQueueBytesMax) {
      return Fail(ErrorKind::kPeer,
                  fmt::format("device state: QEMU left {} MiB unread; is it stuck?",
                              kQueueBytesMax / (1024 * 1024)));
    }
    if (body.empty()) end_delivered_ = true;
    if (!body.empty()) queue_.emplace_back(body.begin(), body.end());
    queue_bytes_ += body.size();
  }
  Wake();
  return {};
}

Status DeviceRelay::Wait(Nanos timeout) {
  std::unique_lock lock(mutex_);
  if (done_changed_.wait_for(lock, timeout, [this] { return done_; })) return result_;
  return Fail(ErrorKind::kTimeout, "device state: not finished in time");
}

bool DeviceRelay::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

void DeviceRelay::Stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  Wake();
  thread_.join();
}

void DeviceRelay::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it wakes already.
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
}

void DeviceRelay::Run() {
  Status status = RunUntilDone();
  // QEMU learns that no more will come, and does not wait for it.
  ::shutdown(stream_.get(), SHUT_RDWR);
  Finish(std::move(status));
}

void DeviceRelay::Finish(Status status) {
  const std::lock_guard lock(mutex_);
  result_ = std::move(status);
  done_ = true;
  queue_.clear();
  done_changed_.notify_all();
}

Status DeviceRelay::RunUntilDone() {
  while (!out_ended_ || !in_ended_) {
    if (stopping_) return Fail(ErrorKind::kTimeout, "device state: stopped");
    FAULTLINE_TRY(WaitForWork());
    if (readable_ && !out_ended_) FAULTLINE_TRY(CarryOut());
    if (!in_ended_) FAULTLINE_TRY(CarryIn());
  }
  return {};
}

/// Until QEMU has something for us, takes more from us, or somebody wakes us.
Status DeviceRelay::WaitForWork() {
  const bool has_piece = piece_written_ < piece_.size();
  const short in = out_ended_ ? 0 : POLLIN;
  const short out = has_piece ? POLLOUT : 0;
  const bool watch_stream = in != 0 || out != 0;  // a closed one would report POLLHUP for ever
  pollfd fds[2] = {{watch_stream ? stream_.get() : -1, static_cast<short>(in | out), 0},
                   {wakeup_.get(), POLLIN, 0}};
  if (::poll(fds, 2, -1) < 0 && errno != EINTR) return StreamFailed("waiting for");
  readable_ = (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
  uint64_t wakeups = 0;
  [[maybe_unused]] const ssize_t drained = ::read(wakeup_.get(), &wakeups, sizeof wakeups);
  return {};
}

/// QEMU → peer, one piece; at its end the empty frame.
Status DeviceRelay::CarryOut() {
  const ssize_t got = ::recv(stream_.get(), read_buffer_.data(), read_buffer_.size(), MSG_DONTWAIT);
  if (got < 0 && NotNow()) return {};
  // A QEMU that closed its end with our bytes unread resets a UNIX socket: its end all the same.
  if (got < 0 && errno != ECONNRESET) return StreamFailed("reading from");
  const size_t bytes = got < 0 ? 0 : static_cast<size_t>(got);
  FAULTLINE_TRY(lane_.Send(wire::FrameType::kDeviceState, std::span(read_buffer_).first(bytes)));
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  out_ended_ = bytes == 0;
  return {};
}

/// Peer → QEMU, as much as QEMU takes now; at its end a half-close.
Status DeviceRelay::CarryIn() {
  while (TakePiece()) {
    const auto rest = std::span<const std::byte>(piece_).subspan(piece_written_);
    const ssize_t sent =
        ::send(stream_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && NotNow()) return {};
    // A QEMU that takes no more (EPIPE) has what it wants, or has died: its own direction and QMP
    // tell which. The rest is dropped.
    const size_t taken = sent < 0 ? rest.size() : static_cast<size_t>(sent);
    piece_written_ += taken;
    bytes_.fetch_add(taken, std::memory_order_relaxed);
  }
  if (in_ended_) ::shutdown(stream_.get(), SHUT_WR);
  return {};
}

/// True if piece_ has bytes left to write. Notices the end behind the last piece.
bool DeviceRelay::TakePiece() {
  if (piece_written_ < piece_.size()) return true;
  const std::lock_guard lock(mutex_);
  queue_bytes_ -= piece_.size();
  piece_.clear();
  piece_written_ = 0;
  in_ended_ = queue_.empty() && end_delivered_;
  if (queue_.empty()) return false;
  piece_ = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

}  // namespace faultline
