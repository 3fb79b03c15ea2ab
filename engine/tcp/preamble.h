// The first words on every connection: who is this, which lane, which migration, which generation.
//
//   source ── Preamble ──────────────► destination
//   source ◄────────── PreambleReply ─ destination
//
// Reads are bounded in bytes and in time: whoever dials the port by mistake (a browser, a
// scanner) gets a short answer or none, and never keeps the destination busy.
#pragma once

#include <cstdint>
#include <string>

#include "engine/core/page_channel.h"
#include "engine/core/result.h"
#include "engine/core/units.h"
#include "engine/core/wire.h"

namespace faultline {

inline constexpr Nanos kPreambleTimeout = std::chrono::seconds(5);
/// The dialling side is more patient: a busy destination answers late, and that is no failure.
inline constexpr Nanos kIntroduceTimeout = std::chrono::seconds(20);

/// What a connection is for.
struct LaneIntroduction {
  LaneKind lane = LaneKind::kInvalid;
  uint32_t stream = 0;      ///< which urgent or bulk lane
  uint64_t generation = 1;  ///< counts up with every redial
  wire::MigrationId migration{};
};

/// The dialling side: says what the connection is for and waits for the answer. Every refusal is
/// an error of kind kRefused or kPeer that names `peer`. `socket` stays the caller's.
Status Introduce(int socket, const LaneIntroduction& introduction, const std::string& peer,
                 Nanos timeout = kIntroduceTimeout);

/// The accepting side: reads what the peer wants. A peer of another version is told so before the
/// error is returned. The caller answers with AnswerIntroduction.
Result<LaneIntroduction> ReadIntroduction(int socket, const std::string& peer,
                                          Nanos timeout = kPreambleTimeout);

/// REQUIRES: status is not kInvalid.
Status AnswerIntroduction(int socket, wire::PreambleStatus status, const std::string& peer,
                          Nanos timeout = kPreambleTimeout);

}  // namespace faultline
