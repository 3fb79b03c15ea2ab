// A native guest under load, whose pages are read from the source while queue pairs break: the
// engine's own loops, lanes, registration and ledger, without a VMM. Every page must hold its
// pattern.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "engine/app/lane_thread.h"
#include "engine/app/read_lanes.h"
#include "engine/app/readable_ram.h"
#include "engine/core/fault_loop.h"
#include "engine/core/pusher.h"
#include "engine/tcp/lane_server.h"
#include "tests/rdma/support/device_test_fixture.h"
#include "tests/uffd/support/require.h"
#include "uffd/staged_landing.h"

namespace faultline::testing {
namespace {

constexpr uint64_t kPages = 4096;
constexpr Nanos kPatience = std::chrono::seconds(60);

uint64_t PatternOf(uint64_t page) { return (page + 1) * 0x9E3779B97F4A7C15; }

/// Of each hundred pages the last five are holes, and of each thousand the first fifty are zeroes;
/// here and there a single page is zero.
bool IsHole(uint64_t page) { return page % 100 >= 95; }
bool IsZero(uint64_t page) { return page % 1000 < 50 || page % 200 == 50; }

/// What every eight bytes of a page hold.
uint64_t ContentOf(uint64_t page) { return IsHole(page) || IsZero(page) ? 0 : PatternOf(page); }

/// The same after GiveUpAndTouchAgain.
bool IsGivenUp(uint64_t page) { return page % 7 == 3; }
uint64_t ContentAfterwards(uint64_t page) {
  return IsGivenUp(page) && !IsHole(page) ? ~PatternOf(page) : ContentOf(page);
}

/// The source: guest RAM with a pattern, page servers for TCP, and all of it readable.
class NativeSource {
 public:
  NativeSource()
      : memory_({{BackingKind::kTmpfs, kPages, 0}}),
        ram_(Require(GuestRam::Open(memory_.geometry(), memory_.vm(), RamAccess::kRead))),
        presence_(memory_.geometry().page_count()) {
    for (uint64_t page = 0; page < kPages; ++page) Fill(page, ContentOf(page));
    const auto data = Require(ram_.DataRuns());
    MarkPresent(data, presence_);
    readable = Require(ReadableRam::Create(
        {.address = Require(rdma::ChooseAddress("", "")), .port = 0, .migration = migration},
        memory_.vm(), ram_));
    Require(readable->Register(data, [] { return Status(); }));
  }

  /// The destination's end of a page lane over a socket.
  tcp::UniqueFd Serve() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) std::abort();
    servers_.push_back(std::make_unique<LaneServer>(
        tcp::UniqueFd(ends[0]), std::make_unique<PageServer>(ram_.window(), presence_, ram_)));
    return tcp::UniqueFd(ends[1]);
  }
  void VouchTo(ReadLanes& lanes) {
    Require(readable->VisitCurrent([&](const std::vector<PageRun>& runs) {
      for (const PageRun& run : runs) lanes.MarkCurrent(run);
      return Status();
    }));
  }
  /// The guest gives pages up, as a balloon does, and touches some of them again: the file has
  /// other pages there now, with what ContentAfterwards says.
  void GiveUpAndTouchAgain() const {
    const UniqueFd again(::dup(memory_.file(0)));
    for (uint64_t page = 0; page < kPages; ++page) {
      if (!IsGivenUp(page)) continue;
      if (::fallocate(again.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      static_cast<off_t>(page * 4096), 4096) != 0) {
        std::abort();
      }
      Fill(page, ContentAfterwards(page));
    }
  }
  [[nodiscard]] const GuestRam& ram() const { return ram_; }

  wire::MigrationId migration{4, 2};
  std::unique_ptr<ReadableRam> readable;

 private:
  void Fill(uint64_t page, uint64_t pattern) const {
    if (IsHole(page)) return;
    std::byte* const at = memory_.At(PageIndex(page));
    for (size_t offset = 0; offset < 4096; offset += 8) std::memcpy(at + offset, &pattern, 8);
  }

  OwnMemory memory_;
  GuestRam ram_;
  PresenceMap presence_;
  std::vector<std::unique_ptr<LaneServer>> servers_;
};

/// The destination: the engine's threads, on a guest in this process.
class NativeDestination {
 public:
  explicit NativeDestination(NativeSource& source)
      : guest_({{BackingKind::kTmpfs, kPages, 0}}),
        cells_(kPages),
        ledger_(cells_),
        order_(guest_.geometry()),
        landing_(guest_.ram.window()) {
    fault_ = Thread<FaultLoop>(
        "fault", kBestBesideReads, std::make_unique<AliasLanding>(guest_.ram.window()),
        [this](Reactor& on) { return std::make_unique<FaultLoop>(Parts(0), guest_.source, on); });
    push_ = Thread<Pusher>("push", IoPreference::kBest, Require(StagedLanding::Create(guest_.ram)),
                           [this](Reactor& on) {
                             return std::make_unique<Pusher>(Parts(1), order_, on, PusherLimits{});
                           });
    ReadLanes::Plan plan;
    plan.dial = {.host = source.readable->offer().host, .port = source.readable->offer().port};
    plan.migration = source.migration;
    plan.regions = source.readable->regions();
    reads = Require(ReadLanes::Create(std::move(plan), {guest_.ram, pause_, hosts_, 1}));
  }
  ~NativeDestination() { Stop(); }

  void Begin(NativeSource& source) {
    fault_->GiveLane(source.Serve());
    push_->GiveLane(source.Serve());
  }
  void RegisterAhead() {
    reads->RegisterAhead([this](PageRun run) { return ledger_.HasAbsent(run); });
  }
  /// A vCPU: loads pages at random; how many were wrong.
  uint64_t LoadPages(uint32_t seed, uint64_t count) const {
    std::mt19937 random(seed);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; ++i) wrong += WordsWrong(random() % kPages);
    return wrong;
  }
  [[nodiscard]] uint64_t AllPagesWrong() const {
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < kPages; ++page) wrong += WordsWrong(page);
    return wrong;
  }
  bool AwaitAllPages() {
    const Nanos deadline = clock_.Now() + kPatience;
    while (ledger_.missing() > PageCount(0) && clock_.Now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return ledger_.missing() == PageCount(0);
  }
  void Stop() {
    reads->StopThreads();
    push_->Stop();
    fault_->Stop();
    reads->Release();
  }
  [[nodiscard]] ByteCount Allocated() const { return Require(guest_.ram.file(0).AllocatedBytes()); }
  [[nodiscard]] PageCount missing() const { return ledger_.missing(); }

 private:
  template <class Loop, class MakeLoop>
  std::unique_ptr<LaneThread<Loop>> Thread(const char* name, IoPreference io,
                                           std::unique_ptr<LandingArea> area, MakeLoop make_loop) {
    auto host = std::make_unique<RoutedLaneHost>(Require(MakeReactor(io)), std::move(area), nullptr,
                                                 std::chrono::microseconds(20));
    hosts_.push_back(host.get());
    return std::make_unique<LaneThread<Loop>>(name, std::move(host), make_loop);
  }
  Landing::Parts Parts(size_t thread) {
    return {guest_.geometry(), ledger_,          guest_.placer, *waiters_, clock_,
            faults_[thread],   landings_[thread]};
  }
  [[nodiscard]] uint64_t WordsWrong(uint64_t page) const {
    const uint64_t expected = content(page);
    const std::byte* const at = guest_.At(PageIndex(page));
    uint64_t first = 0;
    uint64_t last = 0;
    std::memcpy(&first, at, 8);
    std::memcpy(&last, at + 4088, 8);
    return static_cast<uint64_t>(first != expected) + static_cast<uint64_t>(last != expected);
  }

  OwnGuest guest_;
  std::vector<Ledger::Cell> cells_;
  Ledger ledger_;
  std::unique_ptr<WaiterTable> waiters_ = std::make_unique<WaiterTable>();
  MonotonicClock clock_;
  std::array<FaultMetrics, 2> faults_;
  std::array<LandingMetrics, 2> landings_;
  SequentialOrder order_;
  AliasLanding landing_;
  PushPause pause_;
  std::vector<RoutedLaneHost*> hosts_;

 public:
  uint64_t (*content)(uint64_t) = ContentOf;  ///< what pages must hold
  std::unique_ptr<ReadLanes> reads;           ///< outlives the threads

 private:
  std::unique_ptr<LaneThread<FaultLoop>> fault_;
  std::unique_ptr<LaneThread<Pusher>> push_;
};

class NativeMoveTest : public OnDevice {};

TEST_F(NativeMoveTest, EveryPageIsReadAndRight) {
  NativeSource source;
  NativeDestination destination(source);
  source.VouchTo(*destination.reads);
  destination.RegisterAhead();
  destination.Begin(source);
  EXPECT_EQ(destination.LoadPages(1, 500), 0U);
  EXPECT_TRUE(destination.AwaitAllPages());
  EXPECT_EQ(destination.AllPagesWrong(), 0U);
  EXPECT_GT(destination.reads->read_bytes(), ByteCount(kPages * 4096 * 3 / 4));
  EXPECT_EQ(destination.reads->lost(), 0U);
}

TEST_F(NativeMoveTest, WithoutARegisteredAliasPagesLandInThePool) {
  NativeSource source;
  NativeDestination destination(source);
  source.VouchTo(*destination.reads);
  destination.Begin(source);
  EXPECT_TRUE(destination.AwaitAllPages());
  EXPECT_EQ(destination.AllPagesWrong(), 0U);
  EXPECT_GT(destination.reads->read_bytes(), ByteCount(kPages * 4096 * 3 / 4));
}

TEST_F(NativeMoveTest, WhatTheSourceDoesNotVouchForComesOverTcp) {
  NativeSource source;
  NativeDestination destination(source);
  destination.Begin(source);
  EXPECT_TRUE(destination.AwaitAllPages());
  EXPECT_EQ(destination.AllPagesWrong(), 0U);
  EXPECT_EQ(destination.reads->read_bytes(), ByteCount(0));
}

TEST_F(NativeMoveTest, QueuePairsThatBreakLoseNoPage) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (int move = 0; move < 5; ++move) {
    NativeSource source;
    NativeDestination destination(source);
    source.VouchTo(*destination.reads);
    destination.RegisterAhead();
    std::atomic<bool> over{false};
    std::thread breaker([&] {
      while (!over) {
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
        source.readable->answerer().BreakLanes();
      }
    });
    destination.Begin(source);
    EXPECT_EQ(destination.LoadPages(seed + static_cast<uint32_t>(move), 500), 0U);
    EXPECT_TRUE(destination.AwaitAllPages());
    over = true;
    breaker.join();
    EXPECT_EQ(destination.AllPagesWrong(), 0U);
    EXPECT_GT(destination.reads->lost(), 0U);
  }
}

TEST_F(NativeMoveTest, ASourceWhoseQueuePairsAreGoneForGoodServesOverTcp) {
  NativeSource source;
  NativeDestination destination(source);
  source.VouchTo(*destination.reads);
  source.readable->Stop();
  destination.Begin(source);
  EXPECT_TRUE(destination.AwaitAllPages());
  EXPECT_EQ(destination.AllPagesWrong(), 0U);
}

TEST_F(NativeMoveTest, PagesThatTheGuestGaveUpSinceTheyWereRegisteredAreNotStale) {
  NativeSource source;
  source.GiveUpAndTouchAgain();
  NativeDestination destination(source);
  destination.content = ContentAfterwards;
  source.VouchTo(*destination.reads);
  destination.RegisterAhead();
  destination.Begin(source);
  EXPECT_TRUE(destination.AwaitAllPages());
  EXPECT_EQ(destination.AllPagesWrong(), 0U);
  EXPECT_GT(destination.reads->read_bytes(), ByteCount(0));
}

TEST_F(NativeMoveTest, ASparseGuestStaysSparse) {
  NativeSource source;
  const ByteCount before = Require(source.ram().file(0).AllocatedBytes());
  NativeDestination destination(source);
  source.VouchTo(*destination.reads);
  destination.RegisterAhead();
  destination.Begin(source);
  EXPECT_TRUE(destination.AwaitAllPages());
  destination.Stop();
  EXPECT_EQ(Require(source.ram().file(0).AllocatedBytes()), before);
  EXPECT_LE(destination.Allocated(), before);
}

}  // namespace
}  // namespace faultline::testing
