#include "qemu-integration/qmp_client.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "engine/core/check.h"
#include "qemu-integration/json_read.h"
#include "qemu-integration/unix_socket.h"

namespace faultline {

namespace {

Nanos Now() { return std::chrono::steady_clock::now().time_since_epoch(); }

double Seconds(Nanos time) { return std::chrono::duration<double>(time).count(); }

std::string Message(std::string_view command, const Json& arguments, uint64_t id) {
  Json message = {{"execute", std::string(command)}, {"id", id}};
  if (!arguments.empty()) message["arguments"] = arguments;
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

QmpCommand HumanCommand(std::string_view command_line) {
  return {"human-monitor-command", {{"command-line", std::string(command_line)}}};
}

QmpClient::QmpClient(std::string path, UnixSocket socket)
    : path_(std::move(path)), socket_(std::move(socket)), peer_pid_(socket_.PeerPid()) {}

Result<std::unique_ptr<QmpClient>> QmpClient::Connect(std::string path, Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  FAULTLINE_ASSIGN(auto socket, UnixSocket::Connect(path, deadline));
  std::unique_ptr<QmpClient> client(new QmpClient(std::move(path), std::move(socket)));
  FAULTLINE_TRY(client->Negotiate(deadline));
  return client;
}

Status QmpClient::Negotiate(Nanos deadline) {
  auto greeting = Greeting(deadline);
  if (!greeting && greeting.error().kind == ErrorKind::kTimeout) {
    return Fail(ErrorKind::kTimeout,
                fmt::format("QMP socket {}: no greeting — QEMU serves one client at a time and "
                            "another one is probably connected; give QEMU a second -qmp socket",
                            path_));
  }
  FAULTLINE_TRY(greeting);
  const Json& version = Member(Member(Member(*greeting, "QMP"), "version"), "qemu");
  if (!version.is_object()) {
    broken_ = true;
    return Fail(ErrorKind::kRefused,
                fmt::format("{} is a socket, but not a QMP socket: give the path of QEMU's "
                            "-qmp unix:PATH,server=on,wait=off",
                            path_));
  }
  major_ = static_cast<int>(IntOf(Member(version, "major")));
  version_ = fmt::format("{}.{}.{}", major_, IntOf(Member(version, "minor")),
                         IntOf(Member(version, "micro")));
  FAULTLINE_TRY(Execute("qmp_capabilities", Json::object(), deadline - Now()));
  return {};
}

Result<Json> QmpClient::Greeting(Nanos deadline) {
  // An event can come first: QEMU >= 10 greets from another thread than the one that starts the
  // guest, and a monitor that nobody has talked to yet is not told apart from one that negotiated.
  while (true) {
    FAULTLINE_ASSIGN(Json message, NextMessage(deadline));
    if (!message.contains("event")) return message;
    Keep(message);
  }
}

Result<Json> QmpClient::Execute(std::string_view command, const Json& arguments, Nanos timeout) {
  return ExecuteWithFd(command, arguments, -1, timeout);
}

Status QmpClient::Prepare(std::string_view command, const Json& arguments) {
  std::string text = Message(command, arguments, last_id_ + 1);
  if (text == prepared_) return {};
  const Nanos deadline = Now() + kQmpCommandTimeout;
  FAULTLINE_TRY(TakeBack(deadline));
  FAULTLINE_TRY(Send(command, std::string_view(text).substr(0, text.size() - 1), -1, deadline));
  prepared_ = std::move(text);
  return {};
}

Result<std::string> QmpClient::Human(std::string_view command_line) {
  const QmpCommand command = HumanCommand(command_line);
  FAULTLINE_ASSIGN(const Json text, Execute(command.name, command.arguments));
  return StringOf(text);
}

Status QmpClient::PassFd(const std::string& name, int fd) {
  FAULTLINE_CHECK(fd >= 0);
  FAULTLINE_TRY(ExecuteWithFd("getfd", {{"fdname", name}}, fd, kQmpCommandTimeout));
  return {};
}

Status QmpClient::CloseFd(const std::string& name) {
  FAULTLINE_TRY(Execute("closefd", {{"fdname", name}}));
  return {};
}

Result<QmpEvent> QmpClient::WaitEvent(std::string_view name, Nanos timeout) {
  return WaitEvent([name](const QmpEvent& event) { return event.name == name; }, timeout);
}

Result<QmpEvent> QmpClient::WaitEvent(const EventFilter& filter, Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  while (true) {
    for (auto event = events_.begin(); event != events_.end(); ++event) {
      if (!filter(*event)) continue;
      QmpEvent found = std::move(*event);
      events_.erase(event);
      return found;
    }
    if (broken_) return Broken(ErrorKind::kPeer, "the connection is closed");
    FAULTLINE_ASSIGN(const Json message, NextMessage(deadline));
    Keep(message);
  }
}

Result<Json> QmpClient::ExecuteWithFd(std::string_view command, const Json& arguments, int fd,
                                      Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  FAULTLINE_TRY(Begin(command, arguments, fd, deadline));
  return Reply(command, last_id_, timeout, deadline);
}

Result<std::vector<Result<Json>>> QmpClient::ExecuteAll(const std::vector<QmpCommand>& commands,
                                                        Nanos timeout) {
  const Nanos deadline = Now() + timeout;
  uint64_t id = last_id_;
  for (const QmpCommand& command : commands) {
    FAULTLINE_TRY(Begin(command.name, command.arguments, -1, deadline));
  }
  std::vector<Result<Json>> answers;
  for (const QmpCommand& command : commands) {
    answers.push_back(Reply(command.name, ++id, timeout, deadline));
    const Result<Json>& answer = answers.back();
    const bool refused = !answer && answer.error().kind == ErrorKind::kRefused;
    if (!answer && (!refused || broken_)) return tl::unexpected(answer.error());
  }
  return answers;
}

Status QmpClient::Begin(std::string_view command, const Json& arguments, int fd, Nanos deadline) {
  if (broken_) return Broken(ErrorKind::kPeer, "the connection is closed");
  const std::string text = Message(command, arguments, last_id_ + 1) + "\n";
  size_t sent = prepared_.empty() ? 0 : prepared_.size() - 1;
  if (sent > 0 && text.compare(0, prepared_.size(), prepared_) != 0) {
    FAULTLINE_TRY(TakeBack(deadline));
    sent = 0;
  }
  prepared_.clear();
  ++last_id_;
  return Send(command, std::string_view(text).substr(sent), fd, deadline);
}

Status QmpClient::Send(std::string_view command, std::string_view text, int fd, Nanos deadline) {
  const Status sent = socket_.Send(text, fd, deadline);
  if (sent) return {};
  return Broken(sent.error().kind, fmt::format("sending '{}': {}", command, sent.error().message));
}

/// 0xFF is in no JSON: QEMU's lexer drops what it has read, and says one error, of no id.
Status QmpClient::TakeBack(Nanos deadline) {
  if (prepared_.empty()) return {};
  prepared_.clear();
  ++errors_to_drop_;
  return Send("(nothing)", "\xff\n", -1, deadline);
}

Result<Json> QmpClient::Reply(std::string_view command, uint64_t id, Nanos timeout,
                              Nanos deadline) {
  while (true) {
    const Result<Json> message = NextMessage(deadline);
    if (!message && message.error().kind == ErrorKind::kTimeout) {
      return Fail(ErrorKind::kTimeout, fmt::format("QMP '{}' on {}: no answer in {:.1f} s", command,
                                                   path_, Seconds(timeout)));
    }
    FAULTLINE_TRY(message);
    Keep(*message);
    const bool is_reply = message->contains("return") || message->contains("error");
    if (errors_to_drop_ > 0 && message->contains("error") && !message->contains("id")) {
      --errors_to_drop_;
      continue;
    }
    // A reply to a command that timed out earlier is nobody's any more. An error that QEMU could
    // not tie to a command has no id: it belongs to the oldest under way.
    if (!is_reply || UnsignedOf(Member(*message, "id"), id) != id) continue;
    if (message->contains("return")) return Member(*message, "return");
    return Fail(ErrorKind::kRefused,
                fmt::format("QMP '{}' on {}: QEMU says: {}", command, path_,
                            StringOf(Member(Member(*message, "error"), "desc"), "(no reason)")));
  }
}

void QmpClient::Keep(const Json& message) {
  const Json& name = Member(message, "event");
  if (!name.is_string()) return;
  const Json& stamp = Member(message, "timestamp");
  const int64_t micros =
      IntOf(Member(stamp, "seconds")) * 1'000'000 + IntOf(Member(stamp, "microseconds"));
  if (events_.size() == kQmpEventsMax) events_.pop_front();
  events_.push_back({StringOf(name), Member(message, "data"), micros});
}

Result<Json> QmpClient::NextMessage(Nanos deadline) {
  while (true) {
    if (broken_) return Broken(ErrorKind::kPeer, "the connection is closed");
    // Checked here too: a peer that never stops talking must not keep us for ever.
    if (Now() > deadline) return Fail(ErrorKind::kTimeout, "no answer in time");
    const size_t end = input_.find('\n', searched_);
    if (end != std::string::npos) {
      Json message =
          Json::parse(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(end), nullptr, false);
      input_.erase(0, end + 1);
      searched_ = 0;
      if (!message.is_object()) return Broken(ErrorKind::kRefused, "what it says is not QMP");
      return message;
    }
    searched_ = input_.size();
    if (input_.size() > kQmpMessageBytesMax) {
      return Broken(ErrorKind::kPeer,
                    fmt::format("a message of more than {} MiB", kQmpMessageBytesMax >> 20));
    }
    const auto received = socket_.Receive(input_, deadline);
    if (received) continue;
    if (received.error().kind == ErrorKind::kTimeout) return tl::unexpected(received.error());
    return Broken(received.error().kind, received.error().message);
  }
}

tl::unexpected<Error> QmpClient::Broken(ErrorKind kind, const std::string& what) {
  broken_ = true;
  return Fail(kind, fmt::format("QMP socket {}: {}", path_, what));
}

}  // namespace faultline
