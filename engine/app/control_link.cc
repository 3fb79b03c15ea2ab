#include "engine/app/control_link.h"

#include <algorithm>

namespace faultline {

ControlLink::ControlLink(OnFrame on_frame, OnLost on_lost)
    : on_frame_(std::move(on_frame)), on_lost_(std::move(on_lost)), thread_([this] { Run(); }) {}

void ControlLink::Connect(tcp::UniqueFd socket, std::string peer) {
  auto lane = std::make_shared<ControlLane>(std::move(socket), std::move(peer));
  const std::lock_guard lock(mutex_);
  if (lane_) lane_->Shutdown();
  lane_ = std::move(lane);
  changed_.notify_all();
}

Status ControlLink::Send(wire::FrameType type, std::span<const std::byte> body,
                         std::span<const std::byte> more) {
  const std::shared_ptr<ControlLane> lane = this->lane();
  if (!lane) return Fail(ErrorKind::kPeer, "the control connection is lost");
  return lane->Send(type, body, more);
}

Status ControlLink::SendText(wire::FrameType type, std::string_view text) {
  const std::string_view cut = text.substr(0, std::min<size_t>(text.size(), wire::kTextBytesMax));
  return Send(type, std::as_bytes(std::span(cut.data(), cut.size())));
}

void ControlLink::AwaitLost(Nanos patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [this] { return stopping_ || !lane_; });
}

void ControlLink::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (lane_) lane_->Shutdown();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

bool ControlLink::connected() const { return lane() != nullptr; }

std::shared_ptr<ControlLane> ControlLink::lane() const {
  const std::lock_guard lock(mutex_);
  return lane_;
}

void ControlLink::Run() {
  while (const std::shared_ptr<ControlLane> lane = AwaitLane()) {
    const Result<Frame> frame = lane->Receive(kReadSlice);
    if (frame.has_value()) {
      on_frame_(*frame);
    } else if (frame.error().kind != ErrorKind::kTimeout) {
      Drop(lane, frame.error());
    }
  }
}

/// The present lane, waiting for one; nothing when the link is to end.
std::shared_ptr<ControlLane> ControlLink::AwaitLane() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || lane_; });
  return stopping_ ? nullptr : lane_;
}

void ControlLink::Drop(const std::shared_ptr<ControlLane>& lane, const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || lane_ != lane) return;  // replaced already: nothing is lost
    lane_.reset();
    changed_.notify_all();
  }
  on_lost_(error);
}

}  // namespace faultline
