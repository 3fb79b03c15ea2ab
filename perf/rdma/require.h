// For benchmarks: the value of a Result, or the end, with the error's text.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "engine/core/result.h"

namespace faultline::bench {

template <class T>
T Require(Result<T> result) {
  if (!result.has_value()) {
    std::fprintf(stderr, "cannot measure: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

inline void Require(const Status& status) {
  if (status.has_value()) return;
  std::fprintf(stderr, "cannot measure: %s\n", status.error().message.c_str());
  std::exit(1);
}

}  // namespace faultline::bench
