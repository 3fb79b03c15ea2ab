// The other end of a UNIX socket that does what a script says: for clients that must survive it.
#pragma once

#include <string>
#include <thread>
#include <vector>

namespace faultline::test {

/// Serves one client: says the first line of the script at once and one more for each message
/// that the client sends; closes after the last.
class ScriptedPeer {
 public:
  /// As a line: say nothing and keep the connection until the object goes.
  static constexpr const char* kSilence = "(silence)";

  ScriptedPeer(const std::string& path, std::vector<std::string> script);
  ~ScriptedPeer();
  ScriptedPeer(const ScriptedPeer&) = delete;
  ScriptedPeer& operator=(const ScriptedPeer&) = delete;

 private:
  void Serve();

  std::vector<std::string> script_;
  int listener_;
  int stop_pipe_[2];
  std::thread thread_;
};

}  // namespace faultline::test
