#include "tests/qemu/hand_over_fixture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <thread>

#include "qemu-integration/json_read.h"
#include "qemu-integration/proc_files.h"

namespace faultline::test {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Reads the counter through /proc/PID/map_files: the file may have no name.
uint32_t Counter(const VmDescription& vm, size_t region) {
  uint32_t value = 0;
  const auto mappings = ReadMaps(vm.pid);
  EXPECT_TRUE(mappings) << mappings.error().message;
  for (const MappedFile& mapping : mappings.value_or(std::vector<MappedFile>())) {
    if (mapping.base != vm.regions[region].base) continue;
    const std::string link =
        fmt::format("/proc/{}/map_files/{:x}-{:x}", vm.pid, mapping.base.value(),
                    (mapping.base + mapping.length).value());
    const int file = open(link.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(pread(file, &value, sizeof value, kCounterAddress), ssize_t{sizeof value}) << link;
    close(file);
  }
  return value;
}

}  // namespace

bool Runs(const VmDescription& vm, size_t region) {
  const uint32_t before = Counter(vm, region);
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (Counter(vm, region) != before) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

bool StandsStill(const VmDescription& vm, size_t region) {
  const uint32_t before = Counter(vm, region);
  std::this_thread::sleep_for(milliseconds(100));
  return Counter(vm, region) == before;
}

void HandOverTest::SetUp() {
  binary_ = QemuBinary(GetParam());
  if (binary_.empty()) GTEST_SKIP() << "QEMU " << GetParam() << " is not to be had here";
}

std::vector<std::string> HandOverTest::Guest() {
  return {"-bios", WriteCountingBios(folder_), "-device", "VGA"};
}

void HandOverTest::StartSource(const std::vector<std::string>& arguments) {
  source_.reset();
  source_qemu_.emplace(binary_, arguments);
  auto attached = QemuSource::Attach({source_qemu_->qmp_path(), {}});
  ASSERT_OK(attached);
  source_ = std::move(attached).value();
}

void HandOverTest::StartDestination(const std::vector<std::string>& arguments) {
  destination_qemu_.emplace(binary_, arguments + std::vector<std::string>{"-incoming", "defer"});
  auto attached = QemuDestination::Attach({destination_qemu_->qmp_path(), {}});
  ASSERT_OK(attached);
  destination_ = std::move(attached).value();
}

void HandOverTest::Stop() {
  ASSERT_OK(destination_->StartDeviceState(relay_.destination_end()));
  ASSERT_OK(source_->StartDeviceState(relay_.source_end()));
  relay_.CloseEnds();
  ASSERT_OK(source_->WaitStopped(seconds(20)));
}

void HandOverTest::Load() {
  ASSERT_OK(source_->ContinueDeviceState());
  ASSERT_OK(source_->WaitCompleted(seconds(20)));
  ASSERT_OK(destination_->WaitLoaded(seconds(20)));
}

void HandOverTest::ExpectSourceRunsAgain(size_t region) {
  ASSERT_OK(source_->Resume());
  EXPECT_TRUE(Runs(source_->description(), region));
  const auto capabilities = source_->qmp().Execute("query-migrate-capabilities");
  ASSERT_TRUE(capabilities);
  for (const Json& capability : *capabilities) {
    EXPECT_FALSE(BoolOf(Member(capability, "state"))) << capability;
  }
  const auto parameters = source_->qmp().Execute("query-migrate-parameters");
  ASSERT_TRUE(parameters);
  EXPECT_EQ((*parameters)["max-bandwidth"], 134217728);
  EXPECT_EQ((*parameters)["downtime-limit"], 300);
}

}  // namespace faultline::test
