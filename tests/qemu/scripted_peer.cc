#include "tests/qemu/scripted_peer.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

namespace faultline::test {

ScriptedPeer::ScriptedPeer(const std::string& path, std::vector<std::string> script)
    : script_(std::move(script)), listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool ready =
      bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      listen(listener_, 1) == 0 && pipe(stop_pipe_) == 0;
  if (ready) thread_ = std::thread([this] { Serve(); });
}

ScriptedPeer::~ScriptedPeer() {
  close(stop_pipe_[1]);
  if (thread_.joinable()) thread_.join();
  close(stop_pipe_[0]);
  close(listener_);
}

void ScriptedPeer::Serve() {
  const auto readable = [this](int fd) {
    std::array<pollfd, 2> entries = {{{fd, POLLIN, 0}, {stop_pipe_[0], POLLIN, 0}}};
    return poll(entries.data(), entries.size(), 10'000) > 0 && entries[1].revents == 0;
  };
  if (!readable(listener_)) return;
  const int client = accept(listener_, nullptr, nullptr);
  std::array<char, 4096> heard;
  for (size_t line = 0; line < script_.size(); ++line) {
    if (line > 0 && (!readable(client) || recv(client, heard.data(), heard.size(), 0) <= 0)) break;
    if (script_[line] == kSilence) {
      (void)readable(client);
      break;
    }
    size_t said = 0;
    while (said < script_[line].size()) {
      const ssize_t sent =
          send(client, script_[line].data() + said, script_[line].size() - said, MSG_NOSIGNAL);
      if (sent <= 0) break;
      said += static_cast<size_t>(sent);
    }
    if (said < script_[line].size()) break;
  }
  close(client);
}

}  // namespace faultline::test
