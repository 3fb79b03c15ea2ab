// How the urgent lane's server waits for its next request.
#include "engine/tcp/request_wait.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "engine/tcp/deadline.h"
#include "tests/tcp/cores.h"
#include "tests/tcp/loopback.h"
#include "tests/tcp/raw_peer.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using tcp::RequestWait;

constexpr size_t kSlot = 3;

class RequestWaitTest : public testing::Test {
 protected:
  /// On a thread whose affinity is its own.
  template <class Test>
  void Run(Test test) {
    OnAThreadOfItsOwn([&] {
      all_ = AllowedCores();
      test();
    });
  }
  void Send(std::byte byte) { SendBytes(sockets_.destination.get(), Bytes(1, byte)); }
  void Receive(std::byte expected) {
    std::byte got{};
    ASSERT_EQ(wait_.Receive(sockets_.source.get(), std::span(&got, 1)), 1);
    EXPECT_EQ(got, expected);
  }
  void SendAndReceive() {
    Send(std::byte{1});
    Receive(std::byte{1});
  }
  /// So many that it knows where packets are processed.
  void Begin() {
    for (int i = 0; i < 16; ++i) SendAndReceive();
  }
  /// The choice after a while, if the machine takes the core away meanwhile.
  [[nodiscard]] bool ComesToLook() {
    const Nanos until = tcp::MonotonicNow() + std::chrono::seconds(5);
    while (!wait_.ChooseToLook(tcp::MonotonicNow())) {
      if (tcp::MonotonicNow() > until) return false;
      SendAndReceive();
      std::this_thread::sleep_for(milliseconds(1));
    }
    return true;
  }
  /// Nothing comes for a good while, and then something.
  void ReceiveLate(std::byte byte) {
    std::thread sender([&] {
      std::this_thread::sleep_for(milliseconds(20));
      Send(byte);
    });
    Receive(byte);
    sender.join();
  }

  SocketPair sockets_ = Connect(Family::kV4);
  FaultCores cores_;
  RequestWait wait_{&cores_, kSlot};
  std::vector<int> all_;
};

TEST_F(RequestWaitTest, SleepsAtFirstAndNeverOnOneCore) {
  Run([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(all_.front()), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    for (int i = 0; i < 100; ++i) {
      ASSERT_FALSE(wait_.ChooseToLook(tcp::MonotonicNow()));
      SendAndReceive();
    }
  });
}

TEST_F(RequestWaitTest, SaysWherePacketsAreProcessedAndSleepsThere) {
  Run([&] {
    EXPECT_EQ(cores_.version(), 0U);
    Begin();
    EXPECT_NE(cores_.version(), 0U);
    SendAndReceive();
    const std::vector<int> here = AllowedCores();
    ASSERT_EQ(here.size(), 1U);
    EXPECT_TRUE(cores_.Has(here.front()));
  });
}

TEST_F(RequestWaitTest, LooksOnAnotherCoreThanThatOfThePackets) {
  Run([&] {
    if (all_.size() < 2) GTEST_SKIP() << "takes two processors";
    Begin();
    ASSERT_TRUE(ComesToLook());
    SendAndReceive();
    const std::vector<int> here = AllowedCores();
    EXPECT_EQ(here.size(), all_.size() - 1);
    for (const int core : here) EXPECT_FALSE(cores_.Has(core));
    SendAndReceive();  // without another choice: the same again
    EXPECT_EQ(AllowedCores(), here);
  });
}

TEST_F(RequestWaitTest, WhatComesLateIsSleptForAndFound) {
  Run([&] {
    if (all_.size() < 2) GTEST_SKIP() << "takes two processors";
    Begin();
    ASSERT_TRUE(ComesToLook());
    ReceiveLate(std::byte{7});
  });
}

TEST_F(RequestWaitTest, DoesNotLookWhereRequestsComeRarely) {
  Run([&] {
    if (all_.size() < 2) GTEST_SKIP() << "takes two processors";
    SendAndReceive();
    constexpr int kMany = SpinPolicy::kWaitsSlept;
    int slept = 0;
    for (int round = 0; round < 50 && slept < kMany; ++round) {
      ASSERT_TRUE(ComesToLook());
      ReceiveLate(std::byte{2});
      for (slept = 0; !wait_.ChooseToLook(tcp::MonotonicNow()); ++slept) {
        SendAndReceive();
        std::this_thread::sleep_for(milliseconds(1));
      }
    }
    EXPECT_GE(slept, kMany);
  });
}

TEST_F(RequestWaitTest, LeavesTheProcessorsToBulkWhereThereAreFew) {
  Run([&] {
    if (all_.size() < 2 || all_.size() >= 4) GTEST_SKIP() << "takes two or three processors";
    Begin();
    ASSERT_TRUE(ComesToLook());
    cores_.NoteBulk(tcp::MonotonicNow());
    EXPECT_FALSE(wait_.ChooseToLook(tcp::MonotonicNow()));
    std::this_thread::sleep_for(2 * FaultCores::kBulkPause);
    EXPECT_TRUE(ComesToLook());
  });
}

TEST_F(RequestWaitTest, LeavesACoreToEachOtherUrgentLane) {
  Run([&] {
    if (all_.size() != 2) GTEST_SKIP() << "takes two processors";
    Begin();
    ASSERT_TRUE(ComesToLook());
    cores_.Set(kSlot + 1, all_.front());
    EXPECT_FALSE(wait_.ChooseToLook(tcp::MonotonicNow()));
    cores_.Set(kSlot + 1, FaultCores::kAnywhere);
    EXPECT_TRUE(ComesToLook());
  });
}

TEST_F(RequestWaitTest, AnErrorFoundByLookingIsReportedAsOne) {
  Run([&] {
    if (all_.size() < 2) GTEST_SKIP() << "takes two processors";
    Begin();
    ASSERT_TRUE(ComesToLook());
    SendBytes(sockets_.source.get(), Bytes(1));  // unread at the other end: its close is a reset
    sockets_.destination.Reset();
    std::byte got{};
    ASSERT_EQ(wait_.Receive(sockets_.source.get(), std::span(&got, 1)), -1);
    EXPECT_EQ(errno, ECONNRESET);
  });
}

TEST_F(RequestWaitTest, TheEndOfTheConnectionEndsEitherWait) {
  Run([&] {
    Begin();
    EXPECT_TRUE(all_.size() < 2 || ComesToLook());
    sockets_.destination.Reset();
    std::byte got{};
    EXPECT_EQ(wait_.Receive(sockets_.source.get(), std::span(&got, 1)), 0);
  });
}

}  // namespace
}  // namespace faultline::test
