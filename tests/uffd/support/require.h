// For test code only: the value of a Result, or the test stops with the error's text.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "engine/core/result.h"

namespace faultline::testing {

template <class T>
T Require(Result<T> result) {
  if (!result.has_value()) {
    std::fprintf(stderr, "test set-up failed: %s\n", result.error().message.c_str());
    std::abort();
  }
  return std::move(result).value();
}

inline void Require(const Status& status) {
  if (status.has_value()) return;
  std::fprintf(stderr, "test set-up failed: %s\n", status.error().message.c_str());
  std::abort();
}

}  // namespace faultline::testing
