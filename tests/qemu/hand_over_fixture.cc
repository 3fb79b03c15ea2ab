#include "tests/qemu/hand_over_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include <stdexcept>
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
    const std::string link = MapFileLink(vm.pid, mapping);
    const int file = open(link.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(pread(file, &value, sizeof value, kCounterAddress), ssize_t{sizeof value}) << link;
    close(file);
  }
  return value;
}

/// A step that fails is the end of its test, not of one function: what comes after it would use
/// what is not there. GoogleTest reports the exception as the test's failure.
void OrEndTest(const Status& status) {
  if (!status) throw std::runtime_error(status.error().message);
}
template <class T>
T OrEndTest(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(result).value();
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
  source_ = OrEndTest(QemuSource::Attach({source_qemu_->qmp_path(), {}}));
}

void HandOverTest::StartDestination(const std::vector<std::string>& arguments) {
  destination_.reset();
  destination_qemu_.emplace(binary_, arguments + std::vector<std::string>{"-incoming", "defer"});
  destination_ = OrEndTest(QemuDestination::Attach({destination_qemu_->qmp_path(), {}}));
}

void HandOverTest::Stop() {
  OrEndTest(destination_->StartDeviceState(relay_.destination_end()));
  OrEndTest(source_->StartDeviceState(relay_.source_end()));
  relay_.CloseEnds();
  OrEndTest(source_->WaitStopped(seconds(20)));
}

void HandOverTest::Load() {
  OrEndTest(source_->ContinueDeviceState());
  OrEndTest(source_->WaitCompleted(seconds(20)));
  OrEndTest(destination_->WaitLoaded(seconds(20)));
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
