// Loads a redis-server from outside and verifies every answer: several connections, pipelined GET
// and SET. Tells operations per second over time, latencies, wrong answers and lost connections.
//
// Each connection has keys of its own (key % connections) and redis answers in order, so what a GET
// must return is known when it is sent. A key that was never SET holds what DEBUG POPULATE wrote.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qemu-integration/guests/redis/tally.h"

namespace {

constexpr int kReplyTimeoutMs = 60'000;  // longer than any blackout worth the name
constexpr size_t kReadBytes = 1 << 16;

volatile sig_atomic_t g_stop = 0;

struct Options {
  std::string host = "10.77.0.2";
  std::string json;
  uint32_t port = 6379, connections = 4, pipeline = 8, keys = 100'000, value_bytes = 512;
  uint32_t set_pct = 20, seconds = 10, bin_ms = 100, seed = 1;
};

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// What key `key` holds after its `version`th SET. Version 0 is DEBUG POPULATE's: padded with
// zeroes.
std::string ValueOf(uint32_t key, uint32_t version, uint32_t bytes) {
  std::string value = version == 0 ? "value:" + std::to_string(key)
                                   : std::to_string(key) + ":" + std::to_string(version) + ":";
  const size_t head = std::min<size_t>(value.size(), bytes);
  value.resize(bytes, '\0');
  if (version == 0) return value;
  for (size_t i = head; i < bytes; ++i) {
    value[i] = static_cast<char>('a' + (key + version * 7 + i) % 26);
  }
  return value;
}

std::string Command(std::initializer_list<std::string_view> words) {
  std::string text = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string_view word : words) {
    text += "$" + std::to_string(word.size()) + "\r\n";
    text.append(word).append("\r\n");
  }
  return text;
}

// One answer of redis at the front of `text`: its size and, for a bulk string, its payload. Size 0:
// incomplete.
struct Reply {
  size_t size = 0;
  bool is_ok = false;
  std::string_view bulk;
};

Reply ParseReply(std::string_view text) {
  const size_t line_end = text.find("\r\n");
  if (line_end == std::string_view::npos) return {};
  if (text[0] != '$') return {line_end + 2, text.substr(0, line_end) == "+OK", {}};
  const long bytes = std::strtol(text.data() + 1, nullptr, 10);
  if (bytes < 0) return {line_end + 2, false, {}};
  const size_t begin = line_end + 2, size = begin + static_cast<size_t>(bytes) + 2;
  if (text.size() < size) return {};
  return {size, false, text.substr(begin, static_cast<size_t>(bytes))};
}

class Connection {
 public:
  // Connects, or ends the program.
  Connection(const Options& options, uint32_t index)
      : options_(options), index_(index), random_(options.seed * 2654435761u + index + 1) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(options.port));
    if (inet_pton(AF_INET, options.host.c_str(), &to.sin_addr) != 1)
      Die("no IPv4 address: " + options.host);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
      Die("cannot connect to " + options.host + ":" + std::to_string(options.port) + ": " +
          std::strerror(errno) + " — does the guest run, and this program in its namespace?");
    }
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    versions_.assign(options.keys / options.connections + 1, 0);
  }
  Connection(Connection&& other) noexcept
      : options_(other.options_),
        index_(other.index_),
        fd_(std::exchange(other.fd_, -1)),
        random_(other.random_),
        versions_(std::move(other.versions_)) {}
  ~Connection() { Close(); }

  int fd() const { return fd_; }
  bool idle() const { return waiting_.empty(); }
  int64_t waiting_since_ns() const {
    return waiting_.empty() ? INT64_MAX : waiting_.front().sent_ns;
  }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
    waiting_.clear();
  }

  // One blocking command, for the set-up.
  void Ask(const std::string& command) {
    if (!Send(command)) Die("cannot send to redis");
    while (!ParseReply(input_).is_ok) {
      if (ParseReply(input_).size > 0) Die("redis refuses: " + input_.substr(0, input_.find('\r')));
      if (!Receive()) Die("redis closed the connection");
    }
    input_.clear();
  }

  bool SendBurst() {
    std::string burst;
    const int64_t now = NowNs();
    for (uint32_t i = 0; i < options_.pipeline; ++i) burst += NextCommand(now);
    return Send(burst);
  }

  // Reads what is there and tallies it. False: the connection is lost.
  bool TakeAnswers(Tally* tally) {
    if (!Receive()) return false;
    const int64_t now = NowNs();
    std::string_view rest = input_;
    for (Reply reply = ParseReply(rest); reply.size > 0 && !waiting_.empty();
         reply = ParseReply(rest)) {
      const Request request = waiting_.front();
      waiting_.pop_front();
      tally->Answer(request.sent_ns, now, IsRight(request, reply));
      rest.remove_prefix(reply.size);
    }
    input_.erase(0, input_.size() - rest.size());
    return true;
  }

 private:
  struct Request {
    bool is_set;
    uint32_t key, version;
    int64_t sent_ns;
  };

  uint32_t Random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return static_cast<uint32_t>(random_ >> 32);
  }

  std::string NextCommand(int64_t now_ns) {
    const uint32_t slot = Random() % (options_.keys / options_.connections);
    const uint32_t key = slot * options_.connections + index_;
    const bool is_set = Random() % 100 < options_.set_pct;
    if (is_set) ++versions_[slot];
    waiting_.push_back({is_set, key, versions_[slot], now_ns});
    const std::string name = "key:" + std::to_string(key);
    if (!is_set) return Command({"GET", name});
    return Command({"SET", name, ValueOf(key, versions_[slot], options_.value_bytes)});
  }

  bool IsRight(const Request& request, const Reply& reply) const {
    if (request.is_set) return reply.is_ok;
    return reply.bulk == ValueOf(request.key, request.version, options_.value_bytes);
  }

  bool Send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  bool Receive() {
    const size_t had = input_.size();
    input_.resize(had + kReadBytes);
    const ssize_t got = recv(fd_, input_.data() + had, kReadBytes, 0);
    input_.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    return got > 0 || (got < 0 && errno == EINTR);
  }

  const Options& options_;
  uint32_t index_;
  int fd_ = -1;
  uint64_t random_;
  std::string input_;
  std::deque<Request> waiting_;
  std::vector<uint32_t> versions_;  // by key / connections
};

uint32_t NumberOf(const char* text) {
  char* end = nullptr;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value > UINT32_MAX) Die(std::string("no number: ") + text);
  return static_cast<uint32_t>(value);
}

Options ParseOptions(int argc, char** argv) {
  Options o;
  const std::map<std::string_view, uint32_t*> numbers = {
      {"--port", &o.port},       {"--connections", &o.connections}, {"--pipeline", &o.pipeline},
      {"--keys", &o.keys},       {"--value-bytes", &o.value_bytes}, {"--set-pct", &o.set_pct},
      {"--seconds", &o.seconds}, {"--bin-ms", &o.bin_ms},           {"--seed", &o.seed}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (i + 1 == argc) Die("unknown option, or no value: " + std::string(name));
    const char* value = argv[++i];
    if (name == "--host")
      o.host = value;
    else if (name == "--json")
      o.json = value;
    else if (const auto at = numbers.find(name); at != numbers.end())
      *at->second = NumberOf(value);
    else
      Die("unknown option " + std::string(name));
  }
  if (o.connections == 0 || o.keys < o.connections || o.pipeline == 0 || o.bin_ms == 0) {
    Die("--connections, --pipeline and --bin-ms must not be 0, and --keys at least --connections");
  }
  return o;
}

// One turn: waits for answers, takes them, and sends the next burst on every connection that has
// them all.
void Turn(std::vector<Connection>& connections, Tally* tally, bool send_more) {
  std::vector<pollfd> fds;
  for (const Connection& each : connections) fds.push_back({each.fd(), POLLIN, 0});
  poll(fds.data(), fds.size(), 100);
  const int64_t oldest_ns = NowNs() - kReplyTimeoutMs * kNsPerMs;
  for (size_t i = 0; i < connections.size(); ++i) {
    Connection& each = connections[i];
    if (each.fd() < 0) continue;
    bool alive = fds[i].revents == 0 || each.TakeAnswers(tally);
    if (alive && each.idle() && send_more) alive = each.SendBurst();
    if (alive && each.waiting_since_ns() > oldest_ns) continue;
    each.Close();
    tally->LostConnection();
  }
}

bool AllIdle(const std::vector<Connection>& connections) {
  return std::all_of(connections.begin(), connections.end(),
                     [](const Connection& c) { return c.idle(); });
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  std::signal(SIGTERM, [](int) { g_stop = 1; });
  std::signal(SIGINT, [](int) { g_stop = 1; });

  std::vector<Connection> connections;
  connections.reserve(options.connections);
  for (uint32_t i = 0; i < options.connections; ++i) connections.emplace_back(options, i);
  connections[0].Ask(Command({"FLUSHALL"}));
  connections[0].Ask(Command({"DEBUG", "POPULATE", std::to_string(options.keys), "key",
                              std::to_string(options.value_bytes)}));
  std::puts("redis_load ready");
  std::fflush(stdout);

  Tally tally(NowNs(), options.bin_ms);
  tally.Start(NowNs());
  for (Connection& each : connections) each.SendBurst();
  const int64_t end_ns = NowNs() + options.seconds * 1000 * kNsPerMs;
  while (g_stop == 0 && NowNs() < end_ns) Turn(connections, &tally, true);
  while (!AllIdle(connections)) Turn(connections, &tally, false);
  tally.PrintSummary();
  if (!options.json.empty()) tally.WriteJson(options.json);
  return tally.Clean() ? 0 : 1;
}
