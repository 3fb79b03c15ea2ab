#include "engine/tcp/control_lane.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>

#include "engine/core/check.h"
#include "engine/core/wire_codec.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/exact_io.h"
#include "engine/tcp/gathered.h"

namespace faultline {
namespace {

using tcp::IoEnd;
using tcp::PieceOf;

}  // namespace

ControlLane::ControlLane(tcp::UniqueFd socket, std::string peer)
    : socket_(std::move(socket)), peer_(std::move(peer)) {
  FAULTLINE_CHECK(socket_.valid());
}

Status ControlLane::Send(wire::FrameType type, std::span<const std::byte> body,
                         std::span<const std::byte> more) {
  FAULTLINE_CHECK(type != wire::FrameType::kInvalid);
  const wire::FrameHeader header = wire::MakeFrameHeader(type, body.size() + more.size());
  std::array<iovec, 3> pieces{PieceOf(std::as_bytes(std::span(&header, 1))), PieceOf(body),
                              PieceOf(more)};
  const std::lock_guard lock(send_mutex_);
  if (broken_) return BrokenBefore();
  const IoEnd end = tcp::WriteFully(socket_.get(), pieces, kSendTimeout);
  // Part of the frame may have left: nothing sensible can follow it.
  if (end != IoEnd::kDone) return Break(tcp::Describe(end));
  wire_bytes_.fetch_add(sizeof header + header.length, std::memory_order_relaxed);
  return {};
}

Result<Frame> ControlLane::Receive(Nanos timeout) {
  if (broken_) return BrokenBefore();
  const Nanos deadline = tcp::MonotonicNow() + timeout;
  FAULTLINE_TRY(ReceiveHeader(deadline));
  const std::span body(body_.data(), header_.length);
  FAULTLINE_TRY(Fill(body, body_have_, deadline));
  wire_bytes_.fetch_add(sizeof header_ + body.size(), std::memory_order_relaxed);
  header_have_ = 0;
  body_have_ = 0;
  return Frame{static_cast<wire::FrameType>(header_.type), body};
}

Status ControlLane::ReceiveHeader(Nanos deadline) {
  if (header_have_ == sizeof header_) return {};
  const auto bytes = std::as_writable_bytes(std::span(&header_, 1));
  FAULTLINE_TRY(Fill(bytes, header_have_, deadline));
  const Result<wire::FrameHeader> believed = wire::DecodeFrameHeader(bytes);
  if (!believed.has_value()) return Break(believed.error().message);
  if (body_.size() < header_.length) body_.resize(header_.length);
  return {};
}

Status ControlLane::Fill(std::span<std::byte> buffer, size_t& have, Nanos deadline) {
  if (broken_) return BrokenBefore();
  const IoEnd end = tcp::ReadExactly(socket_.get(), buffer, have, deadline);
  if (end == IoEnd::kDone) return {};
  if (end == IoEnd::kTimeout) {
    return Fail(ErrorKind::kTimeout, fmt::format("the peer at {} sent nothing in time", peer_));
  }
  return Break(tcp::Describe(end));
}

tl::unexpected<Error> ControlLane::Break(std::string_view what) {
  Shutdown();
  return Fail(ErrorKind::kPeer, fmt::format("control connection with {}: {}", peer_, what));
}

tl::unexpected<Error> ControlLane::BrokenBefore() const {
  return Fail(ErrorKind::kPeer, fmt::format("control connection with {}: it is closed", peer_));
}

void ControlLane::Shutdown() {
  broken_ = true;
  ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace faultline
