#include "engine/tcp/lane_server.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <utility>

#include "engine/core/check.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/gathered.h"

namespace faultline {
namespace {

using tcp::Advance;
using tcp::PieceOf;

constexpr size_t kRequestBytes = sizeof(wire::PageRequest);
/// From here on a call of its own costs less than the copy that it saves.
constexpr size_t kSendFileMin = size_t{32} * 1024;

/// sendfile has no MSG_NOSIGNAL: a peer that is gone must not end the process.
void HoldBackSigpipe() {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
}

/// None also for what is no request.
wire::Codec CodecOf(const wire::PageRequest& request) {
  return wire::CodecOfRequest(request.kind).value_or(wire::Codec::kNone);
}

/// While it lives, packets leave as long as they may be: the end of one answer and the beginning of
/// the next share one. tcp(7), TCP_CORK.
class Cork {
 public:
  Cork(int fd, bool wanted) : fd_(fd), wanted_(wanted) { Set(1); }
  Cork(const Cork&) = delete;
  Cork& operator=(const Cork&) = delete;
  ~Cork() { Set(0); }

 private:
  void Set(int on) const {
    if (wanted_) static_cast<void>(::setsockopt(fd_, IPPROTO_TCP, TCP_CORK, &on, sizeof on));
  }

  const int fd_;
  const bool wanted_;
};

}  // namespace

LaneServer::LaneServer(tcp::UniqueFd socket, std::unique_ptr<PageServer> server, Options options)
    : socket_(std::move(socket)),
      server_(std::move(server)),
      options_(std::move(options)),
      wait_(options_.fault_cores, options_.slot) {
  FAULTLINE_CHECK(socket_.valid() && server_ != nullptr);
  if (options_.fault_cores != nullptr && !options_.urgent) {
    keep_off_.emplace(*options_.fault_cores);
  }
  if (options_.packs) packer_ = std::make_unique<Packer>();
  thread_ = std::thread([this] { Run(); });
}

LaneServer::LaneServer(tcp::UniqueFd socket, std::unique_ptr<PageServer> server)
    : LaneServer(std::move(socket), std::move(server), Options()) {}

LaneServer::~LaneServer() { Stop(); }

void LaneServer::Stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_relaxed);
  ::shutdown(socket_.get(), SHUT_RDWR);
  thread_.join();
}

LaneServer::Stats LaneServer::stats() const {
  return {requests_.value(), received_bytes_.value(), sent_bytes_.value(), pages_.value()};
}

void LaneServer::Run() {
  HoldBackSigpipe();
  if (options_.on_start) options_.on_start();
  while (ServeOnce()) {
  }
  // The peer learns at once, whatever the reason; the descriptor stays until Stop() has joined.
  ::shutdown(socket_.get(), SHUT_RDWR);
  ended_.store(true, std::memory_order_release);
  if (options_.on_end) options_.on_end();
}

/// One receive, and the answer to every request that is whole. False: the lane has ended.
bool LaneServer::ServeOnce() {
  if (!ReceiveRequests()) return false;
  const size_t whole = inbox_bytes_ / kRequestBytes;
  const Cork cork(socket_.get(), whole > 1 && !options_.urgent);
  for (size_t next = 0; next < whole;) {
    const wire::PageRequest request = RequestAt(next);
    const bool packs = CodecOf(request) != wire::Codec::kNone;
    const size_t answered = packs ? AnswerPacked(request) : AnswerTogether(next, whole);
    if (answered == 0) return false;
    next += answered;
  }
  const size_t used = whole * kRequestBytes;
  inbox_bytes_ -= used;
  std::memmove(inbox_.data(), inbox_.data() + used, inbox_bytes_);
  return true;
}

wire::PageRequest LaneServer::RequestAt(size_t index) const {
  wire::PageRequest request;
  std::memcpy(&request, inbox_.data() + index * kRequestBytes, kRequestBytes);
  return request;
}

bool LaneServer::ReceiveRequests() {
  const auto free = std::span(inbox_).subspan(inbox_bytes_);
  ssize_t got = 0;
  do {
    got = options_.urgent ? wait_.Receive(socket_.get(), free)
                          : ::recv(socket_.get(), free.data(), free.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return EndWith(fmt::format("receiving requests: {}", std::strerror(errno)));
  if (got == 0) return EndWith("the destination closed the lane");
  requests_read_ = tcp::MonotonicNow();
  inbox_bytes_ += static_cast<size_t>(got);
  received_bytes_.Add(static_cast<uint64_t>(got));
  if (keep_off_) keep_off_->Look();
  return true;
}

/// Answers the requests from `first` on, as many as may leave together; returns how many. None:
/// the lane has ended.
size_t LaneServer::AnswerTogether(size_t first, size_t end) {
  const size_t count = PlanTogether(first, end);
  if (count == 0) return Refuse(RequestAt(first));
  return NoteSent(SendAnswers(std::span(plans_).first(count)), count);
}

/// What lies in the server's one buffer leaves before another is planned. Who asks on an urgent
/// lane waits for each page by itself.
size_t LaneServer::PlanTogether(size_t first, size_t end) {
  const size_t most = options_.urgent ? 1 : plans_.size();
  size_t count = 0;
  while (count < std::min(most, end - first)) {
    const wire::PageRequest request = RequestAt(first + count);
    if (CodecOf(request) != wire::Codec::kNone) break;
    if (!server_->Plan(request, plans_[count])) break;
    if (plans_[count++].copied) break;
  }
  return count;
}

/// Returns 1; 0: the lane has ended.
size_t LaneServer::AnswerPacked(const wire::PageRequest& request) {
  ReplyPlan& plan = plans_[0];
  if (packer_ == nullptr || !server_->Plan(request, plan)) return Refuse(request);
  return NoteSent(SendPacked(plan, CodecOf(request)), 1);
}

/// Always 0.
size_t LaneServer::Refuse(const wire::PageRequest& request) {
  EndWith(fmt::format(
      "the destination asked for what cannot be served (pages {} + {}): the lane is closed",
      request.first, request.count));
  return 0;
}

/// The answers to plans_, `count` of them, have left; if not, errno is set, and 0 returned.
size_t LaneServer::NoteSent(bool sent, size_t count) {
  if (!sent) {
    EndWith(fmt::format("sending pages: {}", std::strerror(errno)));
    return 0;
  }
  for (size_t i = 0; i < count; ++i) pages_.Add(plans_[i].header.count);
  requests_.Add(count);
  return count;
}

/// False: errno is set.
bool LaneServer::SendAnswers(std::span<const ReplyPlan> plans) {
  std::array<wire::PageReply, wire::kTogetherMax> headers;
  for (size_t i = 0; i < plans.size(); ++i) {
    headers[i] = Stamped(plans[i].header);
    headers[i].headers_behind = static_cast<uint16_t>(plans.size() - 1 - i);
  }
  return SendAll(plans, std::as_bytes(std::span(headers).first(plans.size())));
}

/// False: errno is set.
bool LaneServer::SendPacked(const ReplyPlan& plan, wire::Codec codec) {
  const Nanos begin = tcp::MonotonicNow();
  const std::span<const std::byte> packed = packer_->Pack(plan, codec);
  const auto took = static_cast<uint64_t>((tcp::MonotonicNow() - begin).count());
  const wire::Packing packing{static_cast<uint32_t>(packed.size()),
                              static_cast<uint32_t>(std::min<uint64_t>(took, UINT32_MAX))};
  const wire::PageReply header = Stamped(plan.header);
  std::array<std::byte, sizeof header + sizeof packing> head;
  std::memcpy(head.data(), &header, sizeof header);
  std::memcpy(head.data() + sizeof header, &packing, sizeof packing);
  if (packed.empty()) return SendAll({&plan, 1}, head);
  Gather(head);
  Gather(packed);
  return SendGathered(0);
}

/// With the time that it took so far to turn the request round, and how the next one is awaited.
wire::PageReply LaneServer::Stamped(wire::PageReply header) {
  const Nanos now = tcp::MonotonicNow();
  const auto turned = static_cast<uint64_t>((now - requests_read_).count());
  header.turned_ns = static_cast<uint32_t>(std::min<uint64_t>(turned, UINT32_MAX));
  header.looks = options_.urgent && wait_.ChooseToLook(now) ? 1 : 0;
  if (keep_off_) options_.fault_cores->NoteBulk(now);
  return header;
}

/// Head and pages, long stretches of pages without copying them. False: errno is set.
bool LaneServer::SendAll(std::span<const ReplyPlan> plans, std::span<const std::byte> head) {
  Gather(head);
  for (const ReplyPlan& plan : plans) {
    for (size_t segment = 0; segment < plan.segment_count; ++segment) {
      if (!SendSegment(plan, segment)) return false;
    }
  }
  return SendGathered(0);
}

/// False: errno is set.
bool LaneServer::SendSegment(const ReplyPlan& plan, size_t segment) {
  const std::span<const std::byte> bytes = plan.segments[segment];
  std::optional<FilePlace> place;
  if (bytes.size() >= kSendFileMin) place = server_->PlaceOf(plan, segment);
  const bool full = gathered_ == pieces_.size();
  if ((place || full) && !SendGathered(MSG_MORE)) return false;
  if (place) return SendFromFile(*place, bytes.size());
  Gather(bytes);
  return true;
}

/// REQUIRES: there is room for a piece.
void LaneServer::Gather(std::span<const std::byte> bytes) { pieces_[gathered_++] = PieceOf(bytes); }

/// What is gathered. False: errno is set.
bool LaneServer::SendGathered(int flags) {
  std::span<iovec> rest = std::span(pieces_).first(std::exchange(gathered_, 0));
  while (!rest.empty()) {
    msghdr message{};
    message.msg_iov = rest.data();
    message.msg_iovlen = rest.size();
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | flags);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    sent_bytes_.Add(static_cast<uint64_t>(sent));
    rest = Advance(rest, static_cast<size_t>(sent));
  }
  return true;
}

/// The socket takes the page cache's own pages: nobody writes into them while the guest is stopped.
bool LaneServer::SendFromFile(FilePlace place, size_t bytes) {
  auto offset = static_cast<off_t>(place.offset.value());
  while (bytes > 0) {
    const ssize_t sent = ::sendfile(socket_.get(), place.fd, &offset, bytes);
    if (sent < 0 && errno == EINTR) continue;
    if (sent == 0) errno = EIO;  // the file ends before the guest's RAM does
    if (sent <= 0) return false;
    sent_bytes_.Add(static_cast<uint64_t>(sent));
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

/// Always false.
bool LaneServer::EndWith(std::string reason) {
  reason_ = stopping_.load(std::memory_order_relaxed) ? "stopped" : std::move(reason);
  return false;
}

}  // namespace faultline
