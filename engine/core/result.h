// Result<T>: what the world does to us (system calls, QMP, the peer) as a value.
//
// Three forms of failure, and only three (ARCHITECTURE.md, "Failure"): a small enum for normal
// outcomes on the hot path, Result<T> for the world, FAULTLINE_CHECK for our own mistakes.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace faultline {

/// Who has to act. Decides the exit code (DESIGN: 1 nothing changed, 2 usage, 3 paused).
enum class ErrorKind : unsigned char {
  kInvalid = 0,   ///< never used; a zeroed value is a defect
  kUsage,         ///< the command line is wrong
  kRefused,       ///< the guest, QEMU, the kernel or the peer cannot do this; nothing changed
  kSystem,        ///< a system call failed
  kPeer,          ///< the peer broke the protocol, refused, or went away
  kTimeout,       ///< a bounded wait ran out
};

/// One line for the operator: what was tried, on what, and what to do.
struct Error {
  ErrorKind kind = ErrorKind::kInvalid;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> Fail(ErrorKind kind, std::string message) {
  return tl::make_unexpected(Error{kind, std::move(message)});
}

}  // namespace faultline

/// Returns the error of `expression` (a Result or Status) from the enclosing function.
#define FAULTLINE_TRY(expression)                                        \
  do {                                                                   \
    auto&& faultline_status = (expression);                              \
    if (!faultline_status.has_value()) {                                 \
      return tl::make_unexpected(std::move(faultline_status).error());   \
    }                                                                    \
  } while (false)

#define FAULTLINE_CONCAT_INNER(a, b) a##b
#define FAULTLINE_CONCAT(a, b) FAULTLINE_CONCAT_INNER(a, b)

/// Declares `lhs` from the value of `expression`, or returns its error.
#define FAULTLINE_ASSIGN(lhs, expression) \
  FAULTLINE_ASSIGN_INNER(FAULTLINE_CONCAT(faultline_result_, __LINE__), lhs, expression)
#define FAULTLINE_ASSIGN_INNER(temporary, lhs, expression)          \
  auto temporary = (expression);                                    \
  if (!temporary.has_value()) {                                     \
    return tl::make_unexpected(std::move(temporary).error());       \
  }                                                                 \
  lhs = std::move(temporary).value()
