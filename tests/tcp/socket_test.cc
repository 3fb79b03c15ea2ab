#include "engine/tcp/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <string>
#include <thread>

#include "engine/tcp/deadline.h"
#include "tests/tcp/loopback.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

int Option(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &length), 0);
  return value;
}

std::string CongestionControl(int fd) {
  std::array<char, 16> name{};
  socklen_t length = name.size();
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length), 0);
  return name.data();
}

/// "cubic", or what sockets have anyway where the kernel lacks it.
std::string UnpacedControl() {
  const tcp::UniqueFd fresh(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  (void)::setsockopt(fresh.get(), IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
  return CongestionControl(fresh.get());
}

TEST(EndpointTest, AddressesNamesAndBracketsAreParsed) {
  EXPECT_EQ(Endpoint::Parse("192.0.2.1:4444"), (Endpoint{"192.0.2.1", 4444}));
  EXPECT_EQ(Endpoint::Parse("[2001:db8::1]:80"), (Endpoint{"2001:db8::1", 80}));
  EXPECT_EQ(Endpoint::Parse("host.example:65535"), (Endpoint{"host.example", 65535}));
  EXPECT_EQ(Endpoint::Parse("[::]:0"), (Endpoint{"::", 0}));
}

TEST(EndpointTest, PrintingGivesBackWhatWasParsed) {
  for (const char* text : {"192.0.2.1:4444", "[2001:db8::1]:80", "host.example:1"}) {
    EXPECT_EQ(Endpoint::Parse(text)->ToString(), text);
  }
}

TEST(EndpointTest, WhatIsNotAnAddressIsAUsageErrorThatQuotesIt) {
  for (const char* text : {"", ":", "host", "host:", ":80", "host:65536", "host:-1", "host:8x",
                           "::1:80", "[::1]", "[]:80", "a b:80", "[::1:80", "host:80:90"}) {
    const auto parsed = Endpoint::Parse(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage);
    EXPECT_NE(parsed.error().message.find(text), std::string::npos);
  }
}

TEST(EndpointTest, OnlyLoopbackAddressesAreLoopback) {
  for (const char* host : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_EQ(IsLoopback({host, 1}), true) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"}) {
    EXPECT_EQ(IsLoopback({host, 1}), false) << host;
  }
}

class SocketTest : public testing::TestWithParam<Family> {};
INSTANTIATE_TEST_SUITE_P(Families, SocketTest, testing::Values(Family::kV4, Family::kV6));

TEST_P(SocketTest, BothEndsEndByThemselvesWhenThePeerFallsSilent) {
  const SocketPair sockets = Connect(GetParam());
  for (const int fd : {sockets.source.get(), sockets.destination.get()}) {
    EXPECT_EQ(Option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    EXPECT_EQ(Option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(Option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 10'000);
    EXPECT_LE(Option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 10);
    EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  }
}

// Before it is connected: a socket that has paced once goes on pacing.
TEST_P(SocketTest, NobodyPacesNearBy) {
  auto listener = Listener::Create(AnyPort(GetParam()));
  ASSERT_TRUE(listener.has_value());
  EXPECT_EQ(CongestionControl(listener->fd()), UnpacedControl());
  auto dialled = Dial(listener->endpoint());
  ASSERT_TRUE(dialled.has_value());
  auto accepted = listener->Accept(seconds(5));
  ASSERT_TRUE(accepted.has_value());
  EXPECT_EQ(CongestionControl(dialled->socket.get()), UnpacedControl());
  EXPECT_EQ(CongestionControl(accepted->socket.get()), UnpacedControl());
}

TEST_P(SocketTest, ATakenPortIsAClearErrorThatNamesTheAddress) {
  const auto first = Listener::Create(AnyPort(GetParam()));
  ASSERT_TRUE(first.has_value());
  const auto second = Listener::Create(first->endpoint());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, ErrorKind::kRefused);
  EXPECT_NE(second.error().message.find(first->endpoint().ToString()), std::string::npos);
  EXPECT_NE(second.error().message.find("another program has the port"), std::string::npos);
}

TEST_P(SocketTest, APortIsFreeAgainAtOnceAfterItsConnectionsClosed) {
  auto first = Listener::Create(AnyPort(GetParam()));
  const Endpoint endpoint = first->endpoint();
  auto dialled = Dial(endpoint);
  auto accepted = first->Accept(seconds(5));
  accepted->socket.Reset();  // the listening side closes first: its port stays in TIME_WAIT
  dialled->socket.Reset();
  { const Listener gone = *std::move(first); }
  EXPECT_TRUE(Listener::Create(endpoint).has_value());
}

TEST_P(SocketTest, AcceptGivesUpInTime) {
  auto listener = Listener::Create(AnyPort(GetParam()));
  const auto accepted = listener->Accept(milliseconds(20));
  ASSERT_FALSE(accepted.has_value());
  EXPECT_EQ(accepted.error().kind, ErrorKind::kTimeout);
}

TEST_P(SocketTest, DialToAPortWhereNobodyListensSaysSoAfterItsTimeout) {
  auto listener = Listener::Create(AnyPort(GetParam()));
  const Endpoint endpoint = listener->endpoint();
  { const Listener gone = *std::move(listener); }
  const auto dialled = Dial(endpoint, {.timeout = milliseconds(100)});
  ASSERT_FALSE(dialled.has_value());
  EXPECT_EQ(dialled.error().kind, ErrorKind::kPeer);
  EXPECT_NE(dialled.error().message.find("is `faultline receive` running"), std::string::npos);
}

TEST_P(SocketTest, DialKeepsTryingUntilSomebodyListens) {
  auto listener = Listener::Create(AnyPort(GetParam()));
  const Endpoint endpoint = listener->endpoint();
  { const Listener gone = *std::move(listener); }
  std::thread late([&] {
    std::this_thread::sleep_for(milliseconds(100));
    auto again = Listener::Create(endpoint);
    EXPECT_TRUE(again->Accept(seconds(5)).has_value());
  });
  EXPECT_TRUE(Dial(endpoint, {.timeout = seconds(5)}).has_value());
  late.join();
}

TEST_P(SocketTest, ACancelledDialReturnsAtOnce) {
  auto listener = Listener::Create(AnyPort(GetParam()));
  const Endpoint endpoint = listener->endpoint();
  { const Listener gone = *std::move(listener); }
  const tcp::UniqueFd cancel(::eventfd(1, 0));
  const Nanos before = tcp::MonotonicNow();
  EXPECT_FALSE(Dial(endpoint, {.timeout = seconds(30), .cancel_fd = cancel.get()}).has_value());
  EXPECT_LT(tcp::MonotonicNow() - before, seconds(5));
}

TEST(AnyFamily, AListenerOnEveryIpv6AddressTakesIpv4Too) {
  auto listener = Listener::Create({"::", 0});
  ASSERT_TRUE(listener.has_value());
  auto dialled = Dial({"127.0.0.1", listener->endpoint().port});
  ASSERT_TRUE(dialled.has_value());
  auto accepted = listener->Accept(seconds(5));
  ASSERT_TRUE(accepted.has_value());
  EXPECT_EQ(accepted->peer.rfind("127.0.0.1:", 0), 0U) << accepted->peer;
}

TEST(AnyFamily, ANameThatDoesNotExistIsAClearError) {
  const auto dialled = Dial({"no-such-host.invalid", 1}, {.timeout = milliseconds(100)});
  ASSERT_FALSE(dialled.has_value());
  EXPECT_NE(dialled.error().message.find("no-such-host.invalid"), std::string::npos);
}

}  // namespace
}  // namespace faultline::test
