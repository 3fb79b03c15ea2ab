// Attaching to a guest's process, and what must stay true when engines die.
#include "uffd/attach.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "tests/uffd/support/backing.h"
#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
#include "uffd/guest_ram.h"
#include "uffd/ptrace_injector.h"
#include "uffd/uffd_fault_source.h"
#include "uffd/uffd_placer.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;

constexpr ByteCount kLength{64 * 4096};
constexpr PageIndex Page(uint64_t n) { return PageIndex(n); }
constexpr PageRun Pages(uint64_t first, uint64_t count) { return {Page(first), PageCount(count)}; }

struct Guest {
  std::atomic<uint64_t> laps{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<int> touch{-1};  ///< page to load next
  std::atomic<int> seen{-1};   ///< what it held
  std::atomic<int> remote_fd{-1};
  std::atomic<bool> stop{false};
};

/// A process with RAM of its own in a shared mapping, whose vCPU loads pages on request.
class NativeGuest {
 public:
  explicit NativeGuest(unsigned user = 0)
      : file_(MakeBackingFile(BackingKind::kTmpfs, kLength)),
        ram_(static_cast<std::byte*>(
            ::mmap(nullptr, kLength.value(), PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0))),
        victim_([this, user] { return Run(user); }) {
    vm_.pid = victim_.pid();
    vm_.regions.push_back({geometry_.shape(0), base(), ByteCount(0), true});
  }
  NativeGuest(const NativeGuest&) = delete;
  NativeGuest& operator=(const NativeGuest&) = delete;
  ~NativeGuest() { ::munmap(ram_, kLength.value()); }

  [[nodiscard]] VmmAddr base() const { return VmmAddr(reinterpret_cast<uint64_t>(ram_)); }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] const VmDescription& vm() const { return vm_; }
  [[nodiscard]] Victim& process() { return victim_; }
  Guest* operator->() { return &*shared_; }

  void Touch(int page) {
    shared_->seen = -1;
    shared_->touch = page;
  }
  /// What the vCPU read; -1 if it has not come back in a while.
  int AwaitSeen() {
    Eventually([this] { return shared_->seen >= 0; });
    return shared_->seen;
  }
  bool StaysAsleep() {
    ::usleep(100'000);
    return shared_->seen < 0;
  }

 private:
  int Run(unsigned user) {
    if (user != 0 && ::setresuid(user, user, user) != 0) return 1;
    ++shared_->laps;
    while (!shared_->stop) {
      const int page = shared_->touch.exchange(-1);
      if (page < 0) {
        ::usleep(500);
      } else {
        shared_->seen = static_cast<int>(
            *const_cast<const volatile std::byte*>(ram_ + static_cast<size_t>(page) * 4096));
      }
      ++shared_->laps;
    }
    return 0;
  }

  SharedWithChild<Guest> shared_;
  Geometry geometry_ = Require(Geometry::Create({{"ram0", kLength, PageSize(4096)}}));
  UniqueFd file_;
  std::byte* ram_;
  VmDescription vm_;
  Victim victim_;
};

/// What an engine at the destination has.
struct Engine {
  Engine(NativeGuest& guest, AttachedUserfault from)
      : attached(std::move(from)),
        ram(Require(GuestRam::Open(guest.geometry(), guest.vm(), RamAccess::kReadWrite))),
        map(guest.geometry(), {guest.base()}),
        source(attached.uffd, map, -1),
        placer(attached.uffd, map, ram) {}

  void Register() {
    Require(attached.uffd.Register(map.base(0), kLength, UffdMode::kMissingAndMinor));
  }
  void Serve(PageIndex page, int value) {
    EXPECT_TRUE(Eventually([&] { return !source.Read().faults.empty(); }));
    ram.window().BytesOf({page, PageCount(1)})[0] = std::byte(value);
    EXPECT_NE(placer.MapHeld({page, PageCount(1)}), PlaceResult::kRetry);
  }

  AttachedUserfault attached;
  GuestRam ram;
  VmmMap map;
  UffdFaultSource source;
  UffdPlacer placer;
};

/// An engine in a process of its own that attaches, reads the first fault and then does nothing.
int RunEngineThatNeverServes(NativeGuest& guest, int pid) {
  const TargetProcess target = Require(TargetProcess::Open(pid));
  Engine engine(guest, Require(AttachUserfault(target)));
  engine.Register();
  guest->remote_fd = engine.attached.remote_fd;
  Eventually([&] { return !engine.source.Read().faults.empty(); });
  ++guest->errors;  // read: the kernel will not send this message again
  return ::pause();
}

TEST(Attach, ServesAnotherProcesssFaults) {
  NativeGuest guest;
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  Engine engine(guest, Require(AttachUserfault(target)));
  engine.Register();
  guest.Touch(7);
  engine.Serve(Page(7), 0x7A);
  EXPECT_EQ(guest.AwaitSeen(), 0x7A);
}

TEST(Attach, LeavesNothingBehindAfterDetaching) {
  NativeGuest guest;
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  {
    Engine engine(guest, Require(AttachUserfault(target)));
    engine.Register();
    Require(engine.attached.uffd.Unregister(guest.base(), kLength));
    Require(CloseRemoteFd(target, engine.attached.remote_fd));
  }
  EXPECT_EQ(guest.process().CountUserfaultFds(), 0);
  guest.Touch(3);
  EXPECT_EQ(guest.AwaitSeen(), 0);
  guest->stop = true;
  EXPECT_EQ(guest.process().ExitStatus(), 0);
}

TEST(Attach, WorksHundredsOfTimesOnOneProcess) {
  NativeGuest guest;
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  for (int i = 0; i < 200; ++i) {
    const AttachedUserfault attached = Require(AttachUserfault(target));
    Require(CloseRemoteFd(target, attached.remote_fd));
  }
  EXPECT_EQ(guest.process().CountUserfaultFds(), 0);
  guest->stop = true;
  EXPECT_EQ(guest.process().ExitStatus(), 0);
}

TEST(Attach, MapsNothingIntoAProcessThatHasEnded) {
  NativeGuest guest;
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  Engine engine(guest, Require(AttachUserfault(target)));
  engine.Register();
  guest.process().Signal(SIGKILL);
  guest.process().ExitStatus();
  engine.ram.window().BytesOf(Pages(0, 1))[0] = std::byte(1);
  EXPECT_EQ(engine.placer.MapHeld(Pages(0, 1)), PlaceResult::kGone);
  EXPECT_EQ(engine.placer.MapZero(Pages(1, 1)), PlaceResult::kGone);
}

TEST(Attach, OfAnUnprivilegedProcessGoesThroughTheDevice) {
  std::ifstream setting("/proc/sys/vm/unprivileged_userfaultfd");
  int allowed = 1;
  setting >> allowed;
  if (allowed != 0) GTEST_SKIP() << "vm.unprivileged_userfaultfd lets everybody";
  UniqueFd device = Require(OpenUserfaultDevice());
  const int inherited = device.get();  // in place of QMP getfd
  NativeGuest guest(65534);
  ASSERT_TRUE(guest.process().AwaitStatus("Uid", "65534"));
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));

  const auto refused = AttachUserfault(target);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(refused.error().message, HasSubstr("/dev/userfaultfd"));

  Engine engine(guest, Require(AttachThroughDevice(target, inherited)));
  Require(CloseRemoteFd(target, inherited));
  engine.Register();
  guest.Touch(9);
  engine.Serve(Page(9), 0x19);
  EXPECT_EQ(guest.AwaitSeen(), 0x19);
}

TEST(EngineDeath, LeavesTheGuestWaitingAndNeverReadingZeroes) {
  NativeGuest guest;
  Victim first([&] { return RunEngineThatNeverServes(guest, guest.process().pid()); });
  ASSERT_TRUE(Eventually([&] { return guest->remote_fd >= 0; }));
  guest.Touch(5);
  ASSERT_TRUE(Eventually([&] { return guest->errors == 1; }));
  first.Signal(SIGKILL);
  ASSERT_EQ(first.ExitStatus(), 1000 + SIGKILL);
  EXPECT_TRUE(guest.StaysAsleep());

  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  Engine second(guest, Require(ReattachUserfault(target, guest->remote_fd)));
  second.placer.Wake(Pages(0, 64));  // the message was read by the dead engine
  second.Serve(Page(5), 0x77);
  EXPECT_EQ(guest.AwaitSeen(), 0x77);
  guest.Touch(6);
  second.Serve(Page(6), 0x78);
  EXPECT_EQ(guest.AwaitSeen(), 0x78);
}

TEST(EngineDeath, WouldGiveZeroesWithoutTheCopyInsideTheGuestsProcess) {
  // The kernel fact that the test above guards against. If this fails, the kernel has changed.
  NativeGuest guest;
  Victim engine([&] { return RunEngineThatNeverServes(guest, guest.process().pid()); });
  ASSERT_TRUE(Eventually([&] { return guest->remote_fd >= 0; }));
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  Require(CloseRemoteFd(target, guest->remote_fd));
  guest.Touch(5);
  ASSERT_TRUE(Eventually([&] { return guest->errors == 1; }));
  engine.Signal(SIGKILL);
  EXPECT_EQ(guest.AwaitSeen(), 0);
}

TEST(EngineDeath, AtAnyInstantOfAnInjectionLeavesTheTargetIntact) {
  constexpr int kDeaths = 60;
  const auto seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  NativeGuest guest;
  for (int i = 0; i < kDeaths; ++i) {
    Victim engine([&] {
      const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
      while (true) {
        const AttachedUserfault attached = Require(AttachUserfault(target));
        Require(CloseRemoteFd(target, attached.remote_fd));
      }
      return 0;
    });
    ::usleep(std::uniform_int_distribution<useconds_t>(500, 6000)(random));
    engine.Signal(SIGKILL);
    ASSERT_EQ(engine.ExitStatus(), 1000 + SIGKILL);
    ASSERT_TRUE(guest.process().AwaitStatus("TracerPid", "0"));
    const uint64_t laps = guest->laps;
    ASSERT_TRUE(Eventually([&] { return guest->laps > laps + 2; })) << "death " << i;
  }
  guest.Touch(1);
  EXPECT_EQ(guest.AwaitSeen(), 0);
  // At most the one descriptor that a dying engine had just been told of.
  EXPECT_LE(guest.process().CountUserfaultFds(), kDeaths);
  guest->stop = true;
  EXPECT_EQ(guest.process().ExitStatus(), 0);
}

}  // namespace
}  // namespace faultline::testing
