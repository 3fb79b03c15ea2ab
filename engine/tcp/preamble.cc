#include "engine/tcp/preamble.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

#include "engine/core/check.h"
#include "engine/tcp/deadline.h"
#include "engine/tcp/exact_io.h"

namespace faultline {
namespace {

using tcp::IoEnd;
using wire::PreambleStatus;

template <class T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

tl::unexpected<Error> Exchange(const std::string& peer, IoEnd end) {
  const ErrorKind kind = end == IoEnd::kTimeout ? ErrorKind::kTimeout : ErrorKind::kPeer;
  return Fail(kind, fmt::format("greeting the peer at {}: {}; is faultline waiting there?", peer,
                                tcp::Describe(end)));
}

tl::unexpected<Error> Stranger(const std::string& peer) {
  return Fail(ErrorKind::kPeer,
              fmt::format("the peer at {} speaks another protocol: it is not faultline; check the "
                          "address and the port",
                          peer));
}

tl::unexpected<Error> OtherVersion(const std::string& peer, uint16_t version) {
  return Fail(ErrorKind::kRefused,
              fmt::format("the peer at {} speaks version {} of the protocol and we speak {}; "
                          "install the same faultline on both hosts",
                          peer, version, wire::kWireVersion));
}

/// Reads one fixed message that opens with the magic; looks at the magic as soon as it is there,
/// so that a stranger who sends a short line is known for one at once.
template <class T>
Status ReadGreeting(int socket, T& greeting, const std::string& peer, Nanos timeout) {
  const Nanos deadline = tcp::MonotonicNow() + timeout;
  const auto bytes = std::as_writable_bytes(std::span(&greeting, 1));
  size_t have = 0;
  IoEnd end = tcp::ReadExactly(socket, bytes.first(sizeof greeting.magic), have, deadline);
  if (end == IoEnd::kDone && greeting.magic != wire::kMagic) return Stranger(peer);
  if (end == IoEnd::kClosed && have > 0) return Stranger(peer);
  if (end == IoEnd::kDone) end = tcp::ReadExactly(socket, bytes, have, deadline);
  if (end != IoEnd::kDone) return Exchange(peer, end);
  return {};
}

Status SendGreeting(int socket, std::span<const std::byte> bytes, const std::string& peer,
                    Nanos timeout) {
  const IoEnd end = tcp::WriteFully(socket, bytes, timeout);
  if (end != IoEnd::kDone) return Exchange(peer, end);
  return {};
}

bool IsKnownLane(const wire::Preamble& preamble) {
  const auto lane = static_cast<LaneKind>(preamble.lane);
  if (lane == LaneKind::kBulk) return preamble.stream < wire::kBulkStreamsMax;
  if (lane == LaneKind::kUrgent) return preamble.stream < wire::kUrgentLanesMax;
  return lane == LaneKind::kControl && preamble.stream == 0;
}

Status StatusOf(const wire::PreambleReply& reply, const std::string& peer) {
  const auto refused = [&](std::string_view why) {
    return Fail(ErrorKind::kRefused, fmt::format("the peer at {} refused: {}", peer, why));
  };
  switch (static_cast<PreambleStatus>(reply.status)) {
    case PreambleStatus::kAccepted:
      return {};
    case PreambleStatus::kBusy:
      return refused("it is busy with another migration; give each its own port");
    case PreambleStatus::kVersionMismatch:
      return OtherVersion(peer, reply.version);
    case PreambleStatus::kUnknownMigration:
      return refused("it does not know this migration; start it afresh");
    case PreambleStatus::kStaleGeneration:
      return refused("this lane was replaced by a newer connection");
    case PreambleStatus::kInvalid:
      break;
  }
  return Stranger(peer);
}

}  // namespace

Status Introduce(int socket, const LaneIntroduction& introduction, const std::string& peer,
                 Nanos timeout) {
  FAULTLINE_CHECK(introduction.lane != LaneKind::kInvalid);
  wire::Preamble preamble{};
  preamble.magic = wire::kMagic;
  preamble.version = wire::kWireVersion;
  preamble.lane = static_cast<uint8_t>(introduction.lane);
  preamble.stream = introduction.stream;
  preamble.generation = introduction.generation;
  preamble.migration = introduction.migration;
  FAULTLINE_TRY(SendGreeting(socket, BytesOf(preamble), peer, timeout));
  wire::PreambleReply reply{};
  FAULTLINE_TRY(ReadGreeting(socket, reply, peer, timeout));
  return StatusOf(reply, peer);
}

Result<LaneIntroduction> ReadIntroduction(int socket, const std::string& peer, Nanos timeout) {
  wire::Preamble preamble{};
  FAULTLINE_TRY(ReadGreeting(socket, preamble, peer, timeout));
  if (preamble.version != wire::kWireVersion) {
    // Whether the answer arrives makes no difference to what we report.
    (void)AnswerIntroduction(socket, PreambleStatus::kVersionMismatch, peer, timeout);
    return OtherVersion(peer, preamble.version);
  }
  if (preamble.reserved != 0 || preamble.generation == 0 || !IsKnownLane(preamble)) {
    return Fail(
        ErrorKind::kPeer,
        fmt::format("the peer at {} sent a malformed greeting; the connection is closed", peer));
  }
  return LaneIntroduction{static_cast<LaneKind>(preamble.lane), preamble.stream,
                          preamble.generation, preamble.migration};
}

Status AnswerIntroduction(int socket, wire::PreambleStatus status, const std::string& peer,
                          Nanos timeout) {
  FAULTLINE_CHECK(status != PreambleStatus::kInvalid);
  wire::PreambleReply reply{};
  reply.magic = wire::kMagic;
  reply.version = wire::kWireVersion;
  reply.status = static_cast<uint16_t>(status);
  return SendGreeting(socket, BytesOf(reply), peer, timeout);
}

}  // namespace faultline
