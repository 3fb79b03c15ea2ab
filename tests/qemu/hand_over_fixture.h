// A pair of QEMUs with a relay between them, for the hand-over tests.
//
// The guest counts in its RAM as long as it runs (WriteCountingBios), so that each side's RAM
// says whether its guest runs. Its code is in the BIOS, so it counts on from zero where no RAM
// was carried over: moving RAM is not the matter here.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qemu-integration/qemu_vm.h"
#include "tests/qemu/qemu_process.h"
#include "tests/qemu/relay.h"

namespace faultline::test {

#define ASSERT_OK(status)                              \
  do {                                                 \
    const auto& asserted = (status);                   \
    ASSERT_TRUE(asserted) << asserted.error().message; \
  } while (false)

/// Whether the guest whose lowest RAM is `region` of that process counts on within two seconds.
bool Runs(const VmDescription& vm, size_t region = 0);
bool StandsStill(const VmDescription& vm, size_t region = 0);

class HandOverTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;

  /// The counting BIOS and a VGA, whose RAM is in QEMU's stream.
  std::vector<std::string> Guest();

  // Steps that every test takes; one that fails ends the test.
  void StartSource(const std::vector<std::string>& arguments);
  void StartDestination(const std::vector<std::string>& arguments);
  /// From two running QEMUs to the stopped source.
  void Stop();
  /// On to the loaded destination.
  void Load();
  void ExpectSourceRunsAgain(size_t region = 0);

  std::string binary_;
  TemporaryFolder folder_;
  RamFile source_ram_;
  RamFile destination_ram_;
  std::optional<QemuProcess> source_qemu_;
  std::optional<QemuProcess> destination_qemu_;
  Relay relay_;
  std::unique_ptr<QemuSource> source_;
  std::unique_ptr<QemuDestination> destination_;
};

#define INSTANTIATE_FOR_EACH_QEMU(suite)                 \
  INSTANTIATE_TEST_SUITE_P(                              \
      Versions, suite, ::testing::Values("7.2", "10.0"), \
      [](const auto& version) { return std::string(version.param == "7.2" ? "Seven" : "Ten"); })

}  // namespace faultline::test
