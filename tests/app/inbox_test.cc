#include "engine/app/inbox.h"

#include <gtest/gtest.h>

#include "engine/core/wire_codec.h"

namespace faultline {
namespace {

using wire::FrameType;
constexpr Nanos kNow{0};

TEST(InboxTest, TheWantedMessageIsGiven) {
  Inbox inbox;
  inbox.Put({FrameType::kWelcome, {}});
  EXPECT_EQ(inbox.Await(FrameType::kWelcome, kNow)->type, FrameType::kWelcome);
}

TEST(InboxTest, NothingIsATimeoutThatNamesWhatWasAwaited) {
  Inbox inbox;
  const auto none = inbox.Await(FrameType::kLoaded, kNow);
  EXPECT_EQ(none.error().kind, ErrorKind::kTimeout);
  EXPECT_NE(none.error().message.find("Loaded"), std::string::npos);
}

TEST(InboxTest, AnotherMessageThanTheProtocolAllowsIsThePeersFault) {
  Inbox inbox;
  inbox.Put({FrameType::kGo, {}});
  EXPECT_EQ(inbox.Await(FrameType::kWelcome, kNow).error().kind, ErrorKind::kPeer);
}

TEST(InboxTest, ThePeersOwnWordsBecomeTheError) {
  Inbox inbox;
  inbox.Put({FrameType::kRefuse, wire::EncodeText("sizes differ")});
  const auto refused = inbox.Await(FrameType::kWelcome, kNow);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_NE(refused.error().message.find("sizes differ"), std::string::npos);
}

TEST(InboxTest, WhatCameBeforeTheLossIsGivenFirst) {
  Inbox inbox;
  inbox.Put({FrameType::kLoaded, {}});
  inbox.Lost({ErrorKind::kPeer, "gone"});
  EXPECT_TRUE(inbox.Await(FrameType::kLoaded, kNow).has_value());
  EXPECT_EQ(inbox.Await(FrameType::kStarted, kNow).error().message, "gone");
}

TEST(InboxTest, ARestoredLinkForgetsTheLoss) {
  Inbox inbox;
  inbox.Lost({ErrorKind::kPeer, "gone"});
  inbox.Restored();
  EXPECT_EQ(inbox.Await(FrameType::kStarted, kNow).error().kind, ErrorKind::kTimeout);
}

TEST(InboxTest, APeerThatFloodsIsCutOff) {
  Inbox inbox;
  for (size_t i = 0; i <= Inbox::kMessagesMax; ++i) inbox.Put({FrameType::kGo, {}});
  EXPECT_TRUE(inbox.failed());
}

}  // namespace
}  // namespace faultline
