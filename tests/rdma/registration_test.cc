// Memory that is registered: what it points to, when it no longer is what the file has, and that
// it is given back.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "tests/rdma/support/device_test_fixture.h"
#include "tests/uffd/support/require.h"
#include "uffd/extent_mapping.h"

namespace faultline::testing {
namespace {

constexpr uint64_t kPages = 256;

/// VmPin of this process: what devices have pinned. (soft RoCE counts nothing else.)
uint64_t PinnedKib() {
  std::ifstream status("/proc/self/status");
  uint64_t kib = 0;
  for (std::string line; std::getline(status, line);) {
    if (std::sscanf(line.c_str(), "VmPin: %lu kB", &kib) == 1) break;
  }
  return kib;
}

class RegistrationTest : public OnDevice {};

TEST_F(RegistrationTest, AllPinnedMemoryIsGivenBack) {
  const uint64_t before = PinnedKib();
  {
    const SourceEnd source(kPages, 64);
    ReadingEnd reading(source, source.regions);
    ASSERT_TRUE(reading.local.RegisterOne(0).has_value());
    EXPECT_GE(PinnedKib(), before + kPages * 4 + 64 * 4);
    EXPECT_EQ(reading.local.pinned(), ByteCount(64 * 4096));
  }
  EXPECT_EQ(PinnedKib(), before);
}

TEST_F(RegistrationTest, MemoryThatCannotBePinnedIsSaid) {
  const SourceEnd source(1, 1);
  void* const nowhere = reinterpret_cast<void*>(uint64_t{1} << 40);
  const auto region =
      rdma::Register(source.answerer->domain(), {static_cast<std::byte*>(nowhere), 4096},
                     rdma::RegionUse::kLandReads);
  ASSERT_FALSE(region.has_value());
  EXPECT_THAT(region.error().message, ::testing::HasSubstr("register 4 KiB"));
}

/// Takes this thread's right to lock memory without limit, and a limit of 64 KiB for the process,
/// until it is destroyed.
class LittleLockedMemory {
 public:
  LittleLockedMemory() {
    ::getrlimit(RLIMIT_MEMLOCK, &limit_);
    const rlimit little{.rlim_cur = 64 * 1024, .rlim_max = limit_.rlim_max};
    ::setrlimit(RLIMIT_MEMLOCK, &little);
    Capabilities(SYS_capget);
    kept_ = data_[0].effective;
    data_[0].effective &= ~(1U << CAP_IPC_LOCK);
    Capabilities(SYS_capset);
  }
  LittleLockedMemory(const LittleLockedMemory&) = delete;
  LittleLockedMemory& operator=(const LittleLockedMemory&) = delete;
  ~LittleLockedMemory() {
    data_[0].effective = kept_;
    Capabilities(SYS_capset);
    ::setrlimit(RLIMIT_MEMLOCK, &limit_);
  }

 private:
  void Capabilities(long call) {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    if (::syscall(call, &header, data_.data()) != 0) std::abort();
  }

  rlimit limit_{};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data_{};
  uint32_t kept_ = 0;
};

TEST_F(RegistrationTest, TheLimitOfLockedMemoryIsNamedWithTheWayToRaiseIt) {
  const SourceEnd source(kPages, kPages);
  const LittleLockedMemory little;
  const auto region =
      rdma::Register(source.answerer->domain(), source.ram.BytesOf(source.ram.All()),
                     rdma::RegionUse::kReadByPeer);
  ASSERT_FALSE(region.has_value());
  EXPECT_THAT(region.error().message, ::testing::HasSubstr("at most 64 KiB may be locked"));
  EXPECT_THAT(region.error().message, ::testing::HasSubstr("ulimit -l"));
}

/// A guest in this process, its RAM file mapped again to be pinned.
class PinnedGuest {
 public:
  explicit PinnedGuest(const SourceEnd& source)
      : guest_({{BackingKind::kTmpfs, kPages, 0}}),
        file_(Require(RamFile::Open(::getpid(), guest_.vm().regions[0], RamAccess::kReadWrite))) {
    for (PageIndex page; page < guest_.All().end(); ++page) *guest_.At(page) = std::byte{1};
    mapping_.emplace(Require(ExtentMapping::Of(file_, {ByteCount(0), ByteCount(kPages * 4096)})));
    region_ = Require(
        rdma::Register(source.answerer->domain(), mapping_->bytes(), rdma::RegionUse::kReadByPeer));
  }
  void Punch(PageIndex page) const {
    file_.Empty({ByteCount(page.value() * 4096), ByteCount(4096)});
  }
  void Touch(PageIndex page) const { *guest_.At(page) = std::byte{2}; }
  [[nodiscard]] std::vector<PageRun> Present() const {
    std::vector<PageRun> runs;
    Require(mapping_->VisitPresent([&runs](ByteCount offset, ByteCount length) {
      runs.push_back(Pages(offset.value() / 4096, length.value() / 4096));
    }));
    return runs;
  }
  [[nodiscard]] std::byte PinnedByteOf(PageIndex page) const {
    return mapping_->bytes()[page.value() * 4096];
  }

 private:
  OwnMemory guest_;
  RamFile file_;
  std::optional<ExtentMapping> mapping_;
  rdma::MemoryRegion region_;
};

TEST_F(RegistrationTest, WhatStaysInPlaceIsCurrent) {
  const SourceEnd source(1, 1);
  const PinnedGuest guest(source);
  guest.Touch(PageIndex(17));
  EXPECT_THAT(guest.Present(), ::testing::ElementsAre(Pages(0, kPages)));
}

TEST_F(RegistrationTest, APageThatWasPunchedIsNotCurrent) {
  const SourceEnd source(1, 1);
  const PinnedGuest guest(source);
  guest.Punch(PageIndex(17));
  EXPECT_THAT(guest.Present(), ::testing::ElementsAre(Pages(0, 17), Pages(18, kPages - 18)));
}

TEST_F(RegistrationTest, APageThatWasPunchedAndTouchedAgainIsNotCurrent) {
  const SourceEnd source(1, 1);
  const PinnedGuest guest(source);
  guest.Punch(PageIndex(0));
  guest.Touch(PageIndex(0));
  guest.Punch(PageIndex(100));
  guest.Touch(PageIndex(100));
  EXPECT_THAT(guest.Present(), ::testing::ElementsAre(Pages(1, 99), Pages(101, kPages - 101)));
}

}  // namespace
}  // namespace faultline::testing
