#include "engine/app/inbox.h"

#include <fmt/format.h>

#include <string>

#include "engine/core/wire_codec.h"

namespace faultline {
namespace {

std::string Text(const Message& message) {
  return wire::DecodeText(message.body).value_or("(a message that cannot be read)");
}

}  // namespace

void Inbox::Put(const Frame& frame) {
  const std::lock_guard lock(mutex_);
  if (messages_.size() >= kMessagesMax) {
    failed_ = true;
    failure_ = Error{ErrorKind::kPeer, "the peer sends more messages than the protocol allows"};
  } else {
    messages_.push_back({frame.type, {frame.body.begin(), frame.body.end()}});
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

Result<Message> Inbox::Await(wire::FrameType wanted, Nanos timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return failed_ || !messages_.empty(); });
  if (!messages_.empty()) {
    Message message = std::move(messages_.front());
    messages_.pop_front();
    if (message.type == wanted) return message;
    if (message.type == wire::FrameType::kRefuse || message.type == wire::FrameType::kAbort) {
      return Fail(ErrorKind::kRefused, fmt::format("the peer gave up: {}", Text(message)));
    }
    return Fail(ErrorKind::kPeer, fmt::format("the peer broke the protocol: {} instead of {}",
                                              Name(message.type), Name(wanted)));
  }
  if (failed_) return tl::make_unexpected(failure_);
  return Fail(ErrorKind::kTimeout,
              fmt::format("the peer did not send {} within {} ms", Name(wanted),
                          std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()));
}

}  // namespace faultline
