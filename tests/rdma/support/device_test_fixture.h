// Tests that need an RDMA device: counted as skipped, with the reason, where there is none.
#pragma once

#include <gtest/gtest.h>

#include "tests/rdma/support/two_ends.h"

namespace faultline::testing {

class OnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = WhyNoDevice();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

inline PageRun Pages(uint64_t first, uint64_t count) {
  return {PageIndex(first), PageCount(count)};
}

}  // namespace faultline::testing
