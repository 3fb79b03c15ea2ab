// Several userfaultfds on stripes of one mapping, as the kernel has it.
#include "uffd/sharded_placer.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <cstring>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

constexpr uint64_t kStripe = 512;  // pages
constexpr size_t kShards = 2;

constexpr PageRun Pages(uint64_t first, uint64_t count) {
  return {PageIndex(first), PageCount(count)};
}

/// Four stripes, dealt out to two userfaultfds.
class ShardedGuest : public OwnMemory {
 public:
  ShardedGuest()
      : OwnMemory({{BackingKind::kTmpfs, 4 * kStripe}}),
        shards(geometry(), kShards),
        ram(Require(GuestRam::Open(geometry(), vm(), RamAccess::kReadWrite))) {
    std::vector<std::unique_ptr<UffdPlacer>> placers;
    for (size_t shard = 0; shard < kShards; ++shard) {
      uffds.push_back(std::make_unique<UserfaultFd>(Require(UserfaultFd::CreateForThisProcess())));
      sources.push_back(std::make_unique<UffdFaultSource>(*uffds.back(), map(), -1));
      placers.push_back(std::make_unique<UffdPlacer>(*uffds.back(), map(), ram));
    }
    for (const PageRun& stripe : shards.Stripes()) {
      Require(uffds[shards.ShardOf(stripe.first)]->Register(
          map().AddrOf(stripe.first), geometry().BytesOf(stripe), UffdMode::kMissingAndMinor));
    }
    placer = std::make_unique<ShardedPlacer>(shards, std::move(placers));
  }

  std::future<int> Load(uint64_t page) const {
    const volatile std::byte* address = At(PageIndex(page));
    return std::async(std::launch::async, [address] { return static_cast<int>(*address); });
  }
  /// The next batch of one shard that is not empty.
  FaultBatch NextBatch(size_t shard) {
    for (int i = 0; i < 100; ++i) {
      pollfd readable{.fd = sources[shard]->WaitFd(), .events = POLLIN, .revents = 0};
      ::poll(&readable, 1, 100);
      const FaultBatch batch = sources[shard]->Read();
      if (!batch.faults.empty() || !batch.removed.empty()) return batch;
    }
    ADD_FAILURE() << "no event came";
    return {};
  }

  ShardMap shards;
  GuestRam ram;
  std::vector<std::unique_ptr<UserfaultFd>> uffds;
  std::vector<std::unique_ptr<UffdFaultSource>> sources;
  std::unique_ptr<ShardedPlacer> placer;
};

TEST(ShardedPlacer, ARunOverTheBorderWakesWhoWaitsOnEitherSide) {
  ShardedGuest guest;
  std::future<int> left = guest.Load(kStripe - 1);
  std::future<int> right = guest.Load(kStripe);
  ASSERT_EQ(guest.NextBatch(0).faults[0].page, PageIndex(kStripe - 1));
  ASSERT_EQ(guest.NextBatch(1).faults[0].page, PageIndex(kStripe));
  const PageRun run = Pages(kStripe - 2, 4);
  const std::span<std::byte> bytes = guest.ram.window().BytesOf(run);
  std::memset(bytes.data(), 7, bytes.size());
  EXPECT_EQ(guest.placer->MapHeld(run), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(left), 7);
  EXPECT_EQ(ValueOf(right), 7);
  EXPECT_EQ(guest.placer->MapHeld(run), PlaceResult::kAlreadyPresent);
}

TEST(ShardedPlacer, ZeroPagesAndWakesReachEveryShard) {
  ShardedGuest guest;
  std::future<int> left = guest.Load(3 * kStripe - 1);
  std::future<int> right = guest.Load(3 * kStripe);
  static_cast<void>(guest.NextBatch(0));
  static_cast<void>(guest.NextBatch(1));
  guest.placer->Wake(Pages(3 * kStripe - 1, 2));  // nothing is mapped: both fault again
  EXPECT_EQ(guest.NextBatch(0).faults[0].page, PageIndex(3 * kStripe - 1));
  EXPECT_EQ(guest.NextBatch(1).faults[0].page, PageIndex(3 * kStripe));
  EXPECT_EQ(guest.placer->MapZero(Pages(3 * kStripe - 1, 2)), PlaceResult::kPlaced);
  EXPECT_EQ(ValueOf(left), 0);
  EXPECT_EQ(ValueOf(right), 0);
}

TEST(ShardedPlacer, ARunOverTheBorderIsRetiredInBothShards) {
  ShardedGuest guest;
  std::future<int> left = guest.Load(kStripe - 1);
  std::future<int> right = guest.Load(kStripe);
  static_cast<void>(guest.NextBatch(0));
  static_cast<void>(guest.NextBatch(1));
  const PageRun run = Pages(kStripe - 2, 4);
  const std::span<std::byte> bytes = guest.ram.window().BytesOf(run);
  std::memset(bytes.data(), 7, bytes.size());
  guest.placer->Retire(run);
  EXPECT_EQ(ValueOf(left), 7);
  EXPECT_EQ(ValueOf(right), 7);
  EXPECT_EQ(*guest.At(PageIndex(kStripe + 1)), std::byte(7));
}

TEST(ShardedPlacer, ARemoveOverTheBorderReachesEachShardWithItsOwnPages) {
  ShardedGuest guest;
  ASSERT_EQ(guest.placer->MapZero(Pages(kStripe - 2, 4)), PlaceResult::kPlaced);
  std::future<int> removing = std::async(std::launch::async, [&] {
    return ::madvise(guest.At(PageIndex(kStripe - 2)), 4 * 4096, MADV_DONTNEED);
  });
  const FaultBatch left = guest.NextBatch(0);
  ASSERT_EQ(left.removed.size(), 1U);
  EXPECT_EQ(left.removed[0], Pages(kStripe - 2, 2));
  const FaultBatch right = guest.NextBatch(1);
  ASSERT_EQ(right.removed.size(), 1U);
  EXPECT_EQ(right.removed[0], Pages(kStripe, 2));
  EXPECT_EQ(ValueOf(removing), 0);
}

TEST(ShardedPlacer, AStripeThatHasAnOwnerIsRefusedToAnother) {
  ShardedGuest guest;
  const Status taken = guest.uffds[0]->Register(guest.map().AddrOf(PageIndex(kStripe)),
                                                ByteCount(4096), UffdMode::kMissingAndMinor);
  ASSERT_FALSE(taken.has_value());
  EXPECT_NE(taken.error().message.find("busy"), std::string::npos) << taken.error().message;
}

}  // namespace
}  // namespace faultline::testing
