#include "uffd/userfault_fd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "tests/uffd/support/own_guest.h"
#include "tests/uffd/support/require.h"
#include "uffd/attach.h"
#include "uffd/fd_passing.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;

TEST(UserfaultFdTest, AgreesOnFeaturesOnlyOnce) {
  const UserfaultFd uffd = Require(UserfaultFd::CreateForThisProcess());
  const auto again = UserfaultFd::Adopt(UniqueFd(::dup(uffd.fd())));
  ASSERT_FALSE(again.has_value());
  EXPECT_THAT(again.error().message, HasSubstr("somebody has done so"));
}

TEST(UserfaultFdTest, SaysWhoHasARangeAlready) {
  const OwnGuest guest({{BackingKind::kTmpfs, 4, 0}});
  const UserfaultFd other = Require(UserfaultFd::CreateForThisProcess());
  const Status status = other.Register(guest.map().base(0), guest.geometry().byte_count(),
                                       UffdMode::kMissingAndMinor);
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("another engine"));
}

TEST(UserfaultFdTest, ServesTwoHalvesOfOneMappingByTwoDescriptors) {
  OwnMemory memory({{BackingKind::kTmpfs, 8, 0}});
  const UserfaultFd low = Require(UserfaultFd::CreateForThisProcess());
  const UserfaultFd high = Require(UserfaultFd::CreateForThisProcess());
  const VmmAddr base = memory.map().base(0);
  const ByteCount half(4 * 4096);
  EXPECT_TRUE(low.Register(base, half, UffdMode::kMissingAndMinor).has_value());
  EXPECT_TRUE(high.Register(base + half, half, UffdMode::kMissingAndMinor).has_value());
}

TEST(UserfaultFdTest, TellsHowFarItCame) {
  const OwnGuest guest({{BackingKind::kTmpfs, 4, 0}});
  guest.Land(PageIndex(0), 1);
  guest.Land(PageIndex(1), 1);
  const UffdProgress first =
      guest.uffd.Continue(guest.map().base(0), guest.geometry().byte_count());
  EXPECT_EQ(first.outcome, UffdOutcome::kPartial);
  EXPECT_EQ(first.done, ByteCount(2 * 4096));
  const UffdProgress second =
      guest.uffd.Continue(guest.map().base(0) + first.done, ByteCount(2 * 4096));
  EXPECT_EQ(second.outcome, UffdOutcome::kNothingThere);
  EXPECT_EQ(second.done, ByteCount(0));
}

TEST(UserfaultFdTest, PoisonsAPageWhereTheKernelCan) {
  if (!UserfaultFd::KernelCanPoison()) GTEST_SKIP() << "Linux 6.6 is needed for UFFDIO_POISON";
  const OwnGuest guest({{BackingKind::kTmpfs, 4, 0}});
  EXPECT_EQ(guest.uffd.Poison(guest.map().base(0), ByteCount(4096)).outcome, UffdOutcome::kDone);
  // The kernel's own access fails where a thread's would get SIGBUS.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  EXPECT_EQ(::write(write_end.get(), guest.At(PageIndex(0)), 1), -1);
  EXPECT_EQ(errno, EFAULT);
}

TEST(FdPassing, CarriesAUserfaultfdThroughASocket) {
  int sockets[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  const UniqueFd left(sockets[0]);
  const UniqueFd right(sockets[1]);
  const OwnGuest guest({{BackingKind::kTmpfs, 4, 0}});
  Require(SendFd(left.get(), guest.uffd.fd()));
  const UserfaultFd copy =
      UserfaultFd::Resume(Require(ReceiveFd(right.get(), std::chrono::seconds(1))));
  guest.Land(PageIndex(0), 0x12);
  EXPECT_EQ(copy.Continue(guest.map().base(0), ByteCount(4096)).outcome, UffdOutcome::kDone);
  EXPECT_EQ(*guest.At(PageIndex(0)), std::byte(0x12));
}

TEST(FdPassing, SaysWhatIsMissing) {
  int sockets[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  const UniqueFd left(sockets[0]);
  UniqueFd right(sockets[1]);
  const auto late = ReceiveFd(left.get(), std::chrono::milliseconds(20));
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().kind, ErrorKind::kTimeout);
  ASSERT_EQ(::write(right.get(), "F", 1), 1);
  const auto without = ReceiveFd(left.get(), std::chrono::seconds(1));
  ASSERT_FALSE(without.has_value());
  EXPECT_EQ(without.error().kind, ErrorKind::kPeer);
  right.Reset();
  EXPECT_FALSE(ReceiveFd(left.get(), std::chrono::seconds(1)).has_value());
}

}  // namespace
}  // namespace faultline::testing
