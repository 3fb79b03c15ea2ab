// The hand-over between two real QEMUs, and the way back from every step of it.
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

#include "tests/qemu/hand_over_fixture.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

/// Ends this process's connections to a UNIX socket behind their owners' backs.
void ShutDownConnectionsTo(const std::string& path) {
  for (int fd = 3; fd < 256; ++fd) {
    sockaddr_un peer{};
    socklen_t size = sizeof peer - 1;
    const bool known = getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
    if (known && path == peer.sun_path) shutdown(fd, SHUT_RDWR);
  }
}

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

class HandOver : public HandOverTest {
 protected:
  void SetUp() override {
    HandOverTest::SetUp();
    if (!IsSkipped()) StartSource({});
  }
  void StartSource(const std::vector<std::string>& extra) {
    HandOverTest::StartSource(SharedRam(source_ram_.path()) + Guest() + extra);
    ASSERT_TRUE(Runs(source_->description()));
  }
  void StartDestination() {
    HandOverTest::StartDestination(SharedRam(destination_ram_.path()) + Guest());
  }
  /// As the engine does, which has other things to watch.
  Status WaitStoppedInShortWaits(seconds most) {
    const auto deadline = std::chrono::steady_clock::now() + most;
    Status stopped;
    do {
      stopped = source_->WaitStopped(milliseconds(50));
    } while (!stopped && stopped.error().kind == ErrorKind::kTimeout &&
             std::chrono::steady_clock::now() < deadline);
    return stopped;
  }
  /// More than so many bytes: on a busy machine the relay has them some time after QEMU wrote them.
  bool HaveComeBy(uint64_t bytes) const {
    const auto deadline = std::chrono::steady_clock::now() + seconds(10);
    while (relay_.bytes_forward() <= bytes && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return relay_.bytes_forward() > bytes;
  }
  /// Where the guest's RAM matters: both files have the same content.
  void CopyRam() {
    std::filesystem::copy_file(source_ram_.path(), destination_ram_.path(),
                               std::filesystem::copy_options::overwrite_existing);
  }
};

TEST_P(HandOver, MovesTheGuestAndExactlyOneRuns) {
  StartDestination();
  Stop();
  EXPECT_TRUE(StandsStill(source_->description()));
  CopyRam();
  Load();
  EXPECT_TRUE(StandsStill(source_->description()));
  EXPECT_TRUE(StandsStill(destination_->description()));
  ASSERT_OK(destination_->Run());
  ASSERT_OK(destination_->Announce());
  EXPECT_TRUE(Runs(destination_->description()));
  EXPECT_TRUE(StandsStill(source_->description()));
  ASSERT_OK(source_->Quit());
  EXPECT_TRUE(source_qemu_->Ends());
}

TEST_P(HandOver, BlackoutIsShortAndVideoMemoryPassesBefore) {
  StartDestination();
  Stop();
  ASSERT_TRUE(HaveComeBy(uint64_t{16} << 10));
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
  EXPECT_TRUE(StandsStill(destination_->description()));
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

TEST_P(HandOver, AGuestThatDrawsFasterThanTheLinkCarriesIsStoppedAllTheSame) {
  HandOverTest::StartSource(
      SharedRam(source_ram_.path()) +
      std::vector<std::string>{"-bios", WriteDrawingBios(folder_), "-device", "VGA"});
  ASSERT_TRUE(Runs(source_->description()));
  StartDestination();
  Relay slow(300'000);
  ASSERT_OK(destination_->StartDeviceState(slow.destination_end()));
  ASSERT_OK(source_->StartDeviceState(slow.source_end()));
  EXPECT_EQ(source_->WaitStopped(milliseconds(500)).error().kind, ErrorKind::kTimeout);
  ASSERT_OK(WaitStoppedInShortWaits(seconds(20)));
  ASSERT_OK(source_->ContinueDeviceState());
  ASSERT_OK(source_->WaitCompleted(seconds(20)));
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
  EXPECT_TRUE(Runs((*attached)->description()));
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

TEST_P(HandOver, WhatAnEarlierUserLeftOnIsOffForTheMoveAndOnAgainAfterwards) {
  const Json left_on = {{{"capability", "postcopy-ram"}, {"state", true}},
                        {{"capability", "xbzrle"}, {"state", true}}};
  QmpClient& qmp = source_->qmp();
  ASSERT_OK(qmp.Execute("migrate-set-capabilities", {{"capabilities", left_on}}));
  ASSERT_OK(qmp.Execute("migrate-set-parameters", {{"max-bandwidth", 1000}}));
  const Json before = qmp.Execute("query-migrate-capabilities").value();
  StartDestination();
  Stop();
  EXPECT_NE(qmp.Execute("query-migrate-capabilities").value(), before);
  ASSERT_OK(source_->Resume());
  EXPECT_EQ(qmp.Execute("query-migrate-capabilities").value(), before);
  EXPECT_EQ(qmp.Execute("query-migrate-parameters").value()["max-bandwidth"], 1000);
}

TEST_P(HandOver, WhatWasSetUpBeforeTheDeviceStateIsTakenBack) {
  StartDestination();
  const auto settings = [](QmpClient& qmp) {
    return std::pair(qmp.Execute("query-migrate-capabilities").value(),
                     qmp.Execute("query-migrate-parameters").value());
  };
  const auto expect_taken_back = [&](auto& vm) {
    const auto before = settings(vm.qmp());
    ASSERT_OK(vm.SetUp());
    EXPECT_NE(settings(vm.qmp()), before);
    ASSERT_OK(vm.Restore());
    EXPECT_EQ(settings(vm.qmp()), before);
    ASSERT_OK(vm.SetUp());
  };
  expect_taken_back(*source_);
  expect_taken_back(*destination_);
  EXPECT_TRUE(Runs(source_->description()));
  Stop();
  CopyRam();
  Load();
  ASSERT_OK(destination_->Run());
  EXPECT_TRUE(Runs(destination_->description()));
}

TEST_P(HandOver, ALostQmpConnectionDoesNotKeepTheSourceFromResuming) {
  StartDestination();
  Stop();
  ShutDownConnectionsTo(source_qemu_->qmp_path());
  ExpectSourceRunsAgain();
}

INSTANTIATE_FOR_EACH_QEMU(HandOver);

}  // namespace
}  // namespace faultline::test
