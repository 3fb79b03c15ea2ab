#include "engine/app/inbox.h"

#include <fmt/format.h>

#include <string>

#include "engine/core/wire_codec.h"

namespace faultline {
namespace {

std::string Text(const Frame& frame) {
  return wire::DecodeText(frame.body).value_or("(a message that cannot be read)");
}

}  // namespace

void Inbox::Put(Frame frame) {
  const std::lock_guard lock(mutex_);
  if (frames_.size() >= kFramesMax) {
    failed_ = true;
    failure_ = Error{ErrorKind::kPeer, "the peer sends more messages than the protocol allows"};
  } else {
    frames_.push_back(std::move(frame));
  }
  changed_.notify_all();
}

void Inbox::Lost(Error error) {
  const std::lock_guard lock(mutex_);
  failed_ = true;
  failure_ = std::move(error);
  changed_.notify_all();
}

void Inbox::Restored() {
  const std::lock_guard lock(mutex_);
  failed_ = false;
}

bool Inbox::failed() const {
  const std::lock_guard lock(mutex_);
  return failed_;
}

Result<Frame> Inbox::Await(wire::FrameType wanted, Nanos timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return failed_ || !frames_.empty(); });
  if (!frames_.empty()) {
    Frame frame = std::move(frames_.front());
    frames_.pop_front();
    if (frame.type == wanted) return frame;
    if (frame.type == wire::FrameType::kRefuse || frame.type == wire::FrameType::kAbort) {
      return Fail(ErrorKind::kRefused, fmt::format("the peer gave up: {}", Text(frame)));
    }
    return Fail(ErrorKind::kPeer, fmt::format("the peer broke the protocol: {} instead of {}",
                                              Name(frame.type), Name(wanted)));
  }
  if (failed_) return tl::make_unexpected(failure_);
  return Fail(ErrorKind::kTimeout,
              fmt::format("the peer did not send {} within {} ms", Name(wanted),
                          std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()));
}

}  // namespace faultline
