// The hand-over between two real QEMUs, and the way back from every step of it.
//
// The guest counts in its RAM as long as it runs, so that each side's RAM file says whether its
// guest runs. RAM travels by copying the file while both are stopped: moving it is not the matter
// here.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

#include "qemu-integration/json_read.h"
#include "qemu-integration/qemu_vm.h"
#include "tests/qemu/qemu_process.h"
#include "tests/qemu/relay.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

uint32_t Counter(const std::string& ram) {
  uint32_t value = 0;
  const int file = open(ram.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(pread(file, &value, sizeof value, kCounterAddress), ssize_t{sizeof value}) << ram;
  close(file);
  return value;
}

/// Whether the guest counts on within two seconds.
bool Runs(const std::string& ram) {
  const uint32_t before = Counter(ram);
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (Counter(ram) != before) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

bool StandsStill(const std::string& ram) {
  const uint32_t before = Counter(ram);
  std::this_thread::sleep_for(milliseconds(100));
  return Counter(ram) == before;
}

/// Ends this process's connections to a UNIX socket behind their owners' backs.
void ShutDownConnectionsTo(const std::string& path) {
  for (int fd = 3; fd < 256; ++fd) {
    sockaddr_un peer{};
    socklen_t size = sizeof peer - 1;
    const bool known = getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
    if (known && path == peer.sun_path) shutdown(fd, SHUT_RDWR);
  }
}

#define ASSERT_OK(status)                              \
  do {                                                 \
    const auto& asserted = (status);                   \
    ASSERT_TRUE(asserted) << asserted.error().message; \
  } while (false)

/// A socket that takes a few KiB and that nobody reads.
class NarrowPair {
 public:
  NarrowPair() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0);
    const int bytes = 4096;
    EXPECT_EQ(setsockopt(ends_[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
  }
  ~NarrowPair() {
    close(ends_[0]);
    close(ends_[1]);
  }
  NarrowPair(const NarrowPair&) = delete;
  NarrowPair& operator=(const NarrowPair&) = delete;
  [[nodiscard]] int end() const { return ends_[0]; }

 private:
  int ends_[2];
};

class HandOver : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    binary_ = QemuBinary(GetParam());
    if (binary_.empty()) GTEST_SKIP() << "QEMU " << GetParam() << " is not to be had here";
    StartSource({});
  }

  std::vector<std::string> Guest() {
    return {"-bios", WriteCountingBios(folder_), "-device", "VGA"};
  }

  void StartSource(const std::vector<std::string>& extra) {
    source_.reset();
    source_qemu_.emplace(binary_, SharedRam(source_ram_.path()) + Guest() + extra);
    auto attached = QemuSource::Attach({source_qemu_->qmp_path(), {}});
    ASSERT_TRUE(attached) << attached.error().message;
    source_ = std::move(attached).value();
    ASSERT_TRUE(Runs(source_ram_.path()));
  }

  void StartDestination(const std::vector<std::string>& extra = {}) {
    destination_qemu_.emplace(binary_, SharedRam(destination_ram_.path()) + Guest() + extra +
                                           std::vector<std::string>{"-incoming", "defer"});
    auto attached = QemuDestination::Attach({destination_qemu_->qmp_path(), {}});
    ASSERT_TRUE(attached) << attached.error().message;
    destination_ = std::move(attached).value();
  }

  /// Up to the stopped source.
  void Stop() {
    ASSERT_OK(destination_->StartDeviceState(relay_.destination_end()));
    ASSERT_OK(source_->StartDeviceState(relay_.source_end()));
    relay_.CloseEnds();
    ASSERT_OK(source_->WaitStopped(seconds(20)));
  }

  void CopyRam() {
    std::filesystem::copy_file(source_ram_.path(), destination_ram_.path(),
                               std::filesystem::copy_options::overwrite_existing);
  }

  /// Up to the loaded destination.
  void Load() {
    ASSERT_OK(source_->ContinueDeviceState());
    ASSERT_OK(source_->WaitCompleted(seconds(20)));
    ASSERT_OK(destination_->WaitLoaded(seconds(20)));
  }

  void ExpectSourceRunsAgain() {
    ASSERT_OK(source_->Resume());
    EXPECT_TRUE(Runs(source_ram_.path()));
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

TEST_P(HandOver, MovesTheGuestAndExactlyOneRuns) {
  StartDestination();
  Stop();
  EXPECT_TRUE(StandsStill(source_ram_.path()));
  CopyRam();
  Load();
  EXPECT_TRUE(StandsStill(source_ram_.path()));
  EXPECT_TRUE(StandsStill(destination_ram_.path()));
  ASSERT_OK(destination_->Run());
  ASSERT_OK(destination_->Announce());
  EXPECT_TRUE(Runs(destination_ram_.path()));
  EXPECT_TRUE(StandsStill(source_ram_.path()));
  ASSERT_OK(source_->Quit());
  EXPECT_TRUE(source_qemu_->Ends());
}

TEST_P(HandOver, BlackoutIsShortAndVideoMemoryPassesBefore) {
  StartDestination();
  Stop();
  EXPECT_GT(relay_.bytes_forward(), uint64_t{16} << 10);
  const uint64_t before_stop = relay_.bytes_forward();
  Load();
  ASSERT_OK(destination_->Run());
  ASSERT_TRUE(source_->StoppedAt());
  ASSERT_TRUE(destination_->RunningAt());
  const int64_t micros = *destination_->RunningAt() - *source_->StoppedAt();
  std::cout << fmt::format("QEMU {}: STOP to RESUME {} us; {} KiB before, {} KiB after STOP\n",
                           GetParam(), micros, before_stop >> 10,
                           (relay_.bytes_forward() - before_stop) >> 10);
  RecordProperty("blackout_us", static_cast<int>(micros));
  EXPECT_GT(micros, 0);
  EXPECT_LT(micros, 2'000'000);
  EXPECT_LT(relay_.bytes_forward() - before_stop, uint64_t{4} << 20);
}

TEST_P(HandOver, AMovedGuestCanBeMovedAgain) {
  StartDestination();
  Stop();
  CopyRam();
  Load();
  ASSERT_OK(destination_->Run());
  destination_.reset();
  const auto again = QemuSource::Attach({destination_qemu_->qmp_path(), {}});
  EXPECT_TRUE(again) << again.error().message;
}

TEST_P(HandOver, ResumeIsRightWhereNothingWasStarted) { ExpectSourceRunsAgain(); }

TEST_P(HandOver, ResumeBeforeStop) {
  // Nobody reads the stream and little of it fits, so the source cannot get as far as STOP.
  const NarrowPair pair;
  ASSERT_OK(source_->StartDeviceState(pair.end()));
  const Status stopped = source_->WaitStopped(milliseconds(300));
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kTimeout);
  EXPECT_FALSE(source_->StoppedAt());
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ResumeAfterStop) {
  StartDestination();
  Stop();
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ResumeAfterContinue) {
  StartDestination();
  Stop();
  CopyRam();
  ASSERT_OK(source_->ContinueDeviceState());
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ResumeAfterCompleted) {
  StartDestination();
  Stop();
  CopyRam();
  Load();
  ExpectSourceRunsAgain();
  EXPECT_TRUE(StandsStill(destination_ram_.path()));
}

TEST_P(HandOver, ResumeAfterTheStreamBrokeBeforeStop) {
  ASSERT_OK(source_->StartDeviceState(relay_.source_end()));
  relay_.Cut();
  EXPECT_FALSE(source_->WaitStopped(seconds(5)));
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ResumeAfterTheStreamBrokeAfterStop) {
  StartDestination();
  Stop();
  relay_.Cut();
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ResumeAfterTheStreamBrokeAndTheSourceNoticed) {
  StartDestination();
  Stop();
  relay_.Cut();
  ASSERT_OK(source_->ContinueDeviceState());
  const Status completed = source_->WaitCompleted(seconds(5));
  ASSERT_FALSE(completed);
  EXPECT_EQ(completed.error().kind, ErrorKind::kRefused);
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ResumeAfterTheDestinationDiedLoading) {
  StartDestination();
  Stop();
  kill(destination_qemu_->pid(), SIGKILL);
  ASSERT_OK(source_->ContinueDeviceState());
  EXPECT_FALSE(source_->WaitCompleted(seconds(5)));
  EXPECT_FALSE(destination_->WaitLoaded(seconds(5)));
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, AResumedGuestCanBeMovedAfterwards) {
  StartDestination();
  Stop();
  ExpectSourceRunsAgain();
  Relay second;
  RamFile second_ram;
  const QemuProcess second_qemu(binary_, SharedRam(second_ram.path()) + Guest() +
                                             std::vector<std::string>{"-incoming", "defer"});
  auto attached = QemuDestination::Attach({second_qemu.qmp_path(), {}});
  ASSERT_OK(attached);
  ASSERT_OK((*attached)->StartDeviceState(second.destination_end()));
  ASSERT_OK(source_->StartDeviceState(second.source_end()));
  ASSERT_OK(source_->WaitStopped(seconds(20)));
  std::filesystem::copy_file(source_ram_.path(), second_ram.path(),
                             std::filesystem::copy_options::overwrite_existing);
  ASSERT_OK(source_->ContinueDeviceState());
  ASSERT_OK(source_->WaitCompleted(seconds(20)));
  ASSERT_OK((*attached)->WaitLoaded(seconds(20)));
  ASSERT_OK((*attached)->Run());
  EXPECT_TRUE(Runs(second_ram.path()));
}

TEST_P(HandOver, ADeviceThatTheDestinationLacksIsNamedAndTheSourceRunsOn) {
  StartSource({"-device", "virtio-rng-pci"});
  StartDestination();
  Stop();
  ASSERT_OK(source_->ContinueDeviceState());
  const Status loaded = destination_->WaitLoaded(seconds(10));
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("same machine and devices"));
  EXPECT_TRUE(destination_qemu_->Ends());
  EXPECT_FALSE(source_->WaitCompleted(seconds(10)));
  ExpectSourceRunsAgain();
}

TEST_P(HandOver, ALostQmpConnectionDoesNotKeepTheSourceFromResuming) {
  StartDestination();
  Stop();
  ShutDownConnectionsTo(source_qemu_->qmp_path());
  ExpectSourceRunsAgain();
}

INSTANTIATE_TEST_SUITE_P(Qemu, HandOver, ::testing::Values("7.2", "10.0"), [](const auto& version) {
  return version.param == "7.2" ? std::string("Seven") : "Ten";
});

}  // namespace
}  // namespace faultline::test
