// A native guest under load, served from outside by a fault thread and a pusher at once: every
// page must hold its own pattern, and pages given up must read as zero ever after.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <thread>
#include <vector>

#include "tests/uffd/support/backing.h"
#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"
#include "tests/uffd/support/victim.h"
#include "uffd/attach.h"
#include "uffd/guest_ram.h"
#include "uffd/uffd_fault_source.h"
#include "uffd/uffd_placer.h"

namespace faultline::testing {
namespace {

struct Load {
  BackingKind kind;
  uint64_t pages;
  uint64_t touches;
  uint64_t run_pages;

  friend void PrintTo(const Load& load, std::ostream* out) { *out << NameOf(load.kind); }
};

struct Shared {
  std::atomic<bool> go{false};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> touches{0};
};

constexpr int kThreads = 4;
constexpr uint64_t kGivenUpEvery = 8;  // of each such group the last page is given up at times

uint64_t PatternOf(uint64_t page) { return (page + 1) * 0x9E3779B97F4A7C15; }
bool MayBeGivenUp(uint64_t page) { return page % kGivenUpEvery == kGivenUpEvery - 1; }

/// The process whose memory is served.
class LoadedGuest {
 public:
  LoadedGuest(const Load& load, uint32_t seed)
      : load_(load),
        seed_(seed),
        page_bytes_(PageSizeOf(load.kind).bytes()),
        length_(load.pages * page_bytes_),
        file_(MakeBackingFile(load.kind, ByteCount(length_))),
        mapping_(file_.get(), ByteCount(length_), ByteCount(0), MAP_SHARED),
        victim_([this] { return Run(); }) {}

  [[nodiscard]] VmDescription Description() const {
    const RegionShape shape{"ram0", ByteCount(length_), PageSize(page_bytes_)};
    return {victim_.pid(), "native", {{shape, base(), ByteCount(0), true}}};
  }
  [[nodiscard]] VmmAddr base() const {
    return VmmAddr(reinterpret_cast<uint64_t>(mapping_.bytes()));
  }
  Victim& process() { return victim_; }
  Shared* operator->() { return &*shared_; }

 private:
  int Run() {
    Eventually([this] { return shared_->go.load(); });
    std::vector<std::thread> vcpus;
    for (uint32_t i = 0; i < kThreads; ++i) vcpus.emplace_back([this, i] { RunVcpu(i); });
    for (std::thread& vcpu : vcpus) vcpu.join();
    return shared_->wrong == 0 ? 0 : 1;
  }
  void RunVcpu(uint32_t index) {
    std::mt19937 random(seed_ + index);
    for (uint64_t i = 0; i < load_.touches / kThreads; ++i) Touch(random() % load_.pages, index);
  }
  /// Pages that may be given up are touched by one thread each: it knows what they must hold.
  void Touch(uint64_t page, uint32_t vcpu) {
    if (MayBeGivenUp(page) && page / kGivenUpEvery % kThreads != vcpu) return;
    std::byte* address = mapping_.bytes() + page * page_bytes_;
    uint64_t first = 0;
    uint64_t last = 0;
    std::memcpy(&first, address, 8);
    std::memcpy(&last, address + page_bytes_ - 8, 8);
    const bool zero = MayBeGivenUp(page) && given_up_.at(page / kGivenUpEvery) != 0;
    const uint64_t expected = zero ? 0 : PatternOf(page);
    if (first != expected || last != expected) ++shared_->wrong;
    ++shared_->touches;
    if (!MayBeGivenUp(page) || zero) return;
    if (::madvise(address, page_bytes_, MADV_REMOVE) != 0) ++shared_->wrong;
    given_up_.at(page / kGivenUpEvery) = 1;
  }

  const Load load_;
  const uint32_t seed_;
  const uint64_t page_bytes_;
  const uint64_t length_;
  SharedWithChild<Shared> shared_;
  std::vector<char> given_up_ = std::vector<char>(load_.pages / kGivenUpEvery + 1);
  UniqueFd file_;
  GuestMapping mapping_;
  Victim victim_;
};

/// A small engine: two threads, one claim per page, bytes out of a formula.
class SmallEngine {
 public:
  SmallEngine(LoadedGuest& guest, const Load& load, const TargetProcess& target)
      : vm_(guest.Description()),
        geometry_(Require(Geometry::Create({vm_.regions[0].shape}))),
        map_(geometry_, {guest.base()}),
        ram_(Require(GuestRam::Open(geometry_, vm_, RamAccess::kReadWrite))),
        attached_(Require(AttachUserfault(target))),
        source_(attached_.uffd, map_, target.pidfd()),
        placer_(attached_.uffd, map_, ram_),
        states_(load.pages),
        run_pages_(load.run_pages) {
    Require(
        attached_.uffd.Register(guest.base(), geometry_.byte_count(), UffdMode::kMissingAndMinor));
  }

  void ServeFaultsUntilTheGuestEnds() {
    while (true) {
      pollfd readable{.fd = source_.WaitFd(), .events = POLLIN, .revents = 0};
      ::poll(&readable, 1, 5);
      const FaultBatch batch = source_.Read();
      if (batch.gone) return;
      for (const PageRun removed : batch.removed) Release(removed);
      // Answering may have to read again, and a batch is valid until the next Read only.
      const std::vector<Fault> faults(batch.faults.begin(), batch.faults.end());
      for (const Fault& fault : faults) Answer(fault.page);
    }
  }

  void Push() {
    for (uint64_t first = 0; first < states_.size(); first += run_pages_) {
      for (uint64_t page = first; page < std::min(first + run_pages_, states_.size()); ++page) {
        Fetch(PageIndex(page));
      }
      ::usleep(200);  // slower than the guest: so that both have work
    }
  }

  void Detach(const TargetProcess& target) {
    Require(attached_.uffd.Unregister(map_.base(0), geometry_.byte_count()));
    Require(CloseRemoteFd(target, attached_.remote_fd));
  }
  [[nodiscard]] const UffdFaultSource::Counters& counters() const { return source_.counters(); }

 private:
  enum State : int { kAbsent, kRequested, kMapped, kReleased };

  bool Fetch(PageIndex page) {
    int absent = kAbsent;
    std::atomic<int>& state = states_[page.value()];
    if (!state.compare_exchange_strong(absent, kRequested)) return false;
    const std::span<std::byte> bytes = ram_.window().BytesOf({page, PageCount(1)});
    const uint64_t pattern = PatternOf(page.value());
    for (size_t at = 0; at < bytes.size(); at += 8) std::memcpy(&bytes[at], &pattern, 8);
    Map(page, &PagePlacer::MapHeld);
    int requested = kRequested;
    state.compare_exchange_strong(requested, kMapped);
    return true;
  }
  void Answer(PageIndex page) {
    if (Fetch(page)) return;
    // Requested: the pusher will map it and wake. Otherwise it is, or was, mapped.
    const int state = states_[page.value()];
    if (state == kReleased) Map(page, &PagePlacer::MapZero);
    if (state == kMapped) Map(page, &PagePlacer::MapAgain);
  }
  void Release(PageRun run) {
    for (PageIndex page = run.first; page < run.end(); ++page) states_[page.value()] = kReleased;
  }
  /// Only the fault thread reads events: when it is here itself, it puts the page off by waking
  /// its waiter, who faults again after the event was read.
  void Map(PageIndex page, PlaceResult (PagePlacer::*how)(PageRun)) {
    const PageRun run{page, PageCount(1)};
    for (int i = 0; i < 10'000; ++i) {
      if ((placer_.*how)(run) != PlaceResult::kRetry) return;
      const FaultBatch batch = ReadFromEitherThread();
      for (const PageRun removed : batch.removed) Release(removed);
      for (const Fault& fault : batch.faults) placer_.Wake({fault.page, PageCount(1)});
    }
  }
  FaultBatch ReadFromEitherThread() {
    if (std::this_thread::get_id() == fault_thread_) return source_.Read();
    ::usleep(100);
    return {};
  }

  const std::thread::id fault_thread_ = std::this_thread::get_id();
  VmDescription vm_;
  Geometry geometry_;
  VmmMap map_;
  GuestRam ram_;
  AttachedUserfault attached_;
  UffdFaultSource source_;
  UffdPlacer placer_;
  std::vector<std::atomic<int>> states_;
  const uint64_t run_pages_;
};

class NativeGuestUnderLoad : public ::testing::TestWithParam<Load> {};

INSTANTIATE_TEST_SUITE_P(On, NativeGuestUnderLoad,
                         ::testing::Values(Load{BackingKind::kTmpfs, 8192, 40'000, 16},
                                           Load{BackingKind::kHugeTmpfs, 8192, 40'000, 64},
                                           Load{BackingKind::kHugetlbfs, 24, 400, 1}),
                         [](const auto& test) { return NameOf(test.param.kind); });

TEST_P(NativeGuestUnderLoad, NeverReadsAWrongByte) {
  const Load load = GetParam();
  const std::string reason = WhyUnavailable(load.kind);
  if (!reason.empty()) GTEST_SKIP() << reason;
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  const HugePagePool pool(load.kind == BackingKind::kHugetlbfs ? static_cast<int>(load.pages) : 0);
  LoadedGuest guest(load, seed);
  const TargetProcess target = Require(TargetProcess::Open(guest.process().pid()));
  SmallEngine engine(guest, load, target);
  guest->go = true;
  std::thread pusher([&] { engine.Push(); });
  engine.ServeFaultsUntilTheGuestEnds();
  pusher.join();
  EXPECT_EQ(guest->wrong, 0U);
  EXPECT_EQ(guest.process().ExitStatus(), 0);
  EXPECT_GT(engine.counters().faults.load(), 10U);
  EXPECT_GT(engine.counters().removes.load(), 0U);
  EXPECT_EQ(engine.counters().faults_outside.load(), 0U);
}

}  // namespace
}  // namespace faultline::testing
