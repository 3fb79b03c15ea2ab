// The QMP client against a real QEMU, and against sockets that mean it ill.
#include "qemu-integration/qmp_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "tests/qemu/qemu_process.h"
#include "tests/qemu/scripted_peer.h"

namespace faultline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr const char* kGreeting =
    R"({"QMP": {"version": {"qemu": {"micro": 3, "minor": 2, "major": 9}}, "capabilities": []}})"
    "\n";
constexpr const char* kFirstReply = "{\"return\": {}, \"id\": 1}\n";

class QmpWithQemu : public ::testing::Test {
 protected:
  QmpWithQemu() : qemu_(QemuBinary("7.2"), {"-machine", "none"}) {}

  std::unique_ptr<QmpClient> Connected() {
    auto client = QmpClient::Connect(qemu_.qmp_path());
    EXPECT_TRUE(client) << client.error().message;
    return std::move(client).value();
  }

  QemuProcess qemu_;
};

TEST_F(QmpWithQemu, GreetingTellsTheVersionAndTheSocketTellsThePid) {
  const auto client = Connected();
  EXPECT_EQ(client->qemu_major(), 7);
  EXPECT_THAT(client->qemu_version(), HasSubstr("7.2."));
  EXPECT_EQ(client->peer_pid(), qemu_.pid());
}

TEST_F(QmpWithQemu, CommandsReturnWhatQemuAnswers) {
  const auto client = Connected();
  const auto status = client->Execute("query-status");
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ((*status)["status"], "running");
}

TEST_F(QmpWithQemu, AnErrorSaysTheCommandAndQemusReason) {
  const auto client = Connected();
  const auto answer = client->Execute("no-such-command");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(answer.error().message, HasSubstr("'no-such-command'"));
  EXPECT_THAT(answer.error().message, HasSubstr("has not been found"));
  EXPECT_FALSE(client->broken());
}

TEST_F(QmpWithQemu, EventsAreKeptUntilAskedForAndCarryQemusClock) {
  const auto client = Connected();
  ASSERT_TRUE(client->Execute("stop"));
  ASSERT_TRUE(client->Execute("cont"));
  const auto resume = client->WaitEvent("RESUME", seconds(5));
  ASSERT_TRUE(resume) << resume.error().message;
  const auto stop = client->WaitEvent("STOP", seconds(5));
  ASSERT_TRUE(stop) << stop.error().message;
  EXPECT_LE(stop->host_micros, resume->host_micros);
  EXPECT_GT(stop->host_micros, 1'600'000'000'000'000);
}

TEST_F(QmpWithQemu, AnEventThatNeverComesIsATimeout) {
  const auto event = Connected()->WaitEvent("STOP", milliseconds(50));
  ASSERT_FALSE(event);
  EXPECT_EQ(event.error().kind, ErrorKind::kTimeout);
}

TEST_F(QmpWithQemu, APassedDescriptorIsHeldByQemuUntilClosed) {
  const auto client = Connected();
  const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(zero, 0);
  const Status passed = client->PassFd("zero", zero);
  close(zero);
  ASSERT_TRUE(passed) << passed.error().message;
  const Status closed = client->CloseFd("zero");
  ASSERT_TRUE(closed) << closed.error().message;
  EXPECT_FALSE(client->CloseFd("zero"));
}

TEST_F(QmpWithQemu, ASecondClientIsToldThatTheSocketIsTaken) {
  const auto first = Connected();
  const auto second = QmpClient::Connect(qemu_.qmp_path(), milliseconds(300));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kTimeout);
  EXPECT_THAT(second.error().message, HasSubstr("one client at a time"));
}

TEST_F(QmpWithQemu, TheEndOfQemuBreaksTheConnectionCleanly) {
  const auto client = Connected();
  ASSERT_TRUE(client->Execute("quit"));
  ASSERT_TRUE(qemu_.Ends());
  const auto answer = client->Execute("query-status");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kPeer);
  EXPECT_TRUE(client->broken());
}

class PreparedCommands : public ::testing::TestWithParam<const char*> {
 protected:
  PreparedCommands() : qemu_(QemuBinary(GetParam()), {"-machine", "none"}) {
    auto client = QmpClient::Connect(qemu_.qmp_path());
    EXPECT_TRUE(client) << client.error().message;
    client_ = std::move(client).value();
  }
  void ExpectNoStop() {
    EXPECT_FALSE(client_->WaitEvent("STOP", milliseconds(50)));
    const auto status = client_->Execute("query-status");
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ((*status)["status"], "running");
  }

  QemuProcess qemu_;
  std::unique_ptr<QmpClient> client_;
};

constexpr auto kVersionName = [](const auto& each) {
  return each.param == std::string("7.2") ? "v7_2" : "v10_0";
};
INSTANTIATE_TEST_SUITE_P(Qemu, PreparedCommands, ::testing::Values("7.2", "10.0"), kVersionName);

TEST_P(PreparedCommands, DoNothingBeforeTheyAreExecuted) {
  ASSERT_TRUE(client_->Prepare("stop"));
  EXPECT_FALSE(client_->WaitEvent("STOP", milliseconds(50)));
  ASSERT_TRUE(client_->Execute("stop"));
  EXPECT_TRUE(client_->WaitEvent("STOP", milliseconds(0)));
}

TEST_P(PreparedCommands, MayHaveArgumentsAndMayFail) {
  const Json arguments = {{"path", "/no-such-object"}};
  ASSERT_TRUE(client_->Prepare("qom-list", arguments));
  const auto answer = client_->Execute("qom-list", arguments);
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("no-such-object"));
}

TEST_P(PreparedCommands, AreTakenBackByAnyOther) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client_->Prepare("stop"));
    ExpectNoStop();
  }
  ASSERT_TRUE(client_->Prepare("stop"));
  ASSERT_TRUE(client_->Prepare("qom-list", {{"path", "/"}}));
  ExpectNoStop();
  const auto refused = client_->Execute("no-such-command");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("has not been found"));
}

TEST_P(PreparedCommands, PreparedTwiceAreOne) {
  ASSERT_TRUE(client_->Prepare("stop"));
  ASSERT_TRUE(client_->Prepare("stop"));
  ASSERT_TRUE(client_->Execute("stop"));
  ASSERT_TRUE(client_->Execute("cont"));
  ASSERT_TRUE(client_->WaitEvent("STOP", milliseconds(0)));
  EXPECT_FALSE(client_->WaitEvent("STOP", milliseconds(0)));
}

TEST_P(PreparedCommands, GoWithAClientThatGoes) {
  ASSERT_TRUE(client_->Prepare("stop"));
  client_.reset();
  auto next = QmpClient::Connect(qemu_.qmp_path());
  ASSERT_TRUE(next) << next.error().message;
  client_ = std::move(next).value();
  ExpectNoStop();
}

class SeveralCommands : public PreparedCommands {};
INSTANTIATE_TEST_SUITE_P(Qemu, SeveralCommands, ::testing::Values("7.2", "10.0"), kVersionName);

TEST_P(SeveralCommands, AreAnsweredInTheirOrder) {
  ASSERT_TRUE(client_->Prepare("cont"));
  const auto answers = client_->ExecuteAll({{"stop"},
                                            {"query-status"},
                                            {"qom-list", {{"path", "/no-such-object"}}},
                                            {"no-such-command"},
                                            {"cont"},
                                            {"query-status"}});
  ASSERT_TRUE(answers) << answers.error().message;
  ASSERT_EQ(answers->size(), 6U);
  EXPECT_EQ((*answers)[1]->at("status"), "paused");
  EXPECT_THAT((*answers)[2].error().message, HasSubstr("no-such-object"));
  EXPECT_THAT((*answers)[3].error().message, HasSubstr("has not been found"));
  EXPECT_EQ((*answers)[5]->at("status"), "running");
  EXPECT_TRUE(client_->WaitEvent("STOP", milliseconds(0)));
  EXPECT_TRUE(client_->WaitEvent("RESUME", milliseconds(0)));
}

TEST_P(SeveralCommands, AreAllAnsweredWhereTheyAreManyMoreThanQemuTakesIn) {
  const std::vector<QmpCommand> many(500, {"query-status"});
  const auto answers = client_->ExecuteAll(many);
  ASSERT_TRUE(answers) << answers.error().message;
  ASSERT_EQ(answers->size(), many.size());
  for (const auto& answer : *answers) EXPECT_EQ(answer->at("status"), "running");
}

TEST(QmpConnect, AWrongPathSaysWhatToStart) {
  const auto client = QmpClient::Connect("/tmp/faultline-no-such-socket");
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(client.error().message, HasSubstr("/tmp/faultline-no-such-socket"));
  EXPECT_THAT(client.error().message, HasSubstr("-qmp unix:"));
}

TEST(QmpConnect, APathThatIsTooLongIsAUsageError) {
  const auto client = QmpClient::Connect("/tmp/" + std::string(200, 'x'));
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kUsage);
}

TEST(QmpConnect, AFileThatIsNoSocketIsRefused) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() + "/file") << "text";
  const auto client = QmpClient::Connect(folder.path() + "/file");
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().message, HasSubstr("no socket"));
}

TEST(QmpConnect, ASocketThatNobodyServesIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/left-over";
  { const ScriptedPeer ended(path, {}); }
  const auto client = QmpClient::Connect(path);
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().message, HasSubstr("nobody listens"));
}

class QmpWithHostilePeer : public ::testing::Test {
 protected:
  Result<std::unique_ptr<QmpClient>> ConnectTo(std::vector<std::string> script) {
    peer_ = std::make_unique<ScriptedPeer>(path_, std::move(script));
    return QmpClient::Connect(path_, milliseconds(500));
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/peer";
  std::unique_ptr<ScriptedPeer> peer_;
};

TEST_F(QmpWithHostilePeer, SilenceIsATimeout) {
  const auto client = ConnectTo({ScriptedPeer::kSilence});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kTimeout);
}

TEST_F(QmpWithHostilePeer, AnotherProtocolIsRefused) {
  const auto client = ConnectTo({"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(client.error().message, HasSubstr("not QMP"));
}

TEST_F(QmpWithHostilePeer, JsonThatIsNoGreetingIsRefused) {
  const auto client = ConnectTo({"{\"QMP\": [1, 2, 3]}\n"});
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().message, HasSubstr("not a QMP socket"));
}

TEST_F(QmpWithHostilePeer, AnEventBeforeTheGreetingIsKept) {
  const std::string event = R"({"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}})"
                            "\n";
  const auto client = ConnectTo({event + kGreeting, kFirstReply});
  ASSERT_TRUE(client) << client.error().message;
  EXPECT_EQ((*client)->qemu_version(), "9.2.3");
  EXPECT_TRUE((*client)->WaitEvent("RESUME", milliseconds(0)));
}

TEST_F(QmpWithHostilePeer, HalfAGreetingAndAnEndIsThePeersFault) {
  const auto client = ConnectTo({"{\"QMP\": {\"vers"});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, ErrorKind::kPeer);
}

TEST_F(QmpWithHostilePeer, AMessageWithoutEndIsCutOff) {
  const auto client = ConnectTo({"{\"x\": \"" + std::string(kQmpMessageBytesMax + 100'000, 'a')});
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().message, HasSubstr("more than 4 MiB"));
}

TEST_F(QmpWithHostilePeer, MembersOfWrongTypesAreNoCrash) {
  const auto client =
      ConnectTo({R"({"QMP": {"version": {"qemu": {"major": "x", "minor": [], "micro": {}}}}})"
                 "\n",
                 R"({"event": 7, "timestamp": "now"})"
                 "\n"
                 R"({"return": {}, "id": 1})"
                 "\n"});
  ASSERT_TRUE(client) << client.error().message;
  EXPECT_EQ((*client)->qemu_version(), "0.0.0");
}

TEST_F(QmpWithHostilePeer, AReplyToAnEarlierCommandIsDropped) {
  const auto client = ConnectTo({kGreeting, kFirstReply,
                                 "{\"return\": \"late\", \"id\": 1}\n"
                                 "{\"return\": \"mine\", \"id\": 2}\n"});
  ASSERT_TRUE(client) << client.error().message;
  const auto answer = (*client)->Execute("query-status");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, "mine");
}

TEST_F(QmpWithHostilePeer, ACommandWithoutAnswerTimesOutAndTheClientLivesOn) {
  const auto client = ConnectTo({kGreeting, kFirstReply, "", "{\"return\": 5, \"id\": 3}\n"});
  ASSERT_TRUE(client) << client.error().message;
  const auto lost = (*client)->Execute("query-status", Json::object(), milliseconds(50));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::kTimeout);
  const auto answer = (*client)->Execute("query-status");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, 5);
}

TEST_F(QmpWithHostilePeer, OfSeveralCommandsOneWithoutAnswerFailsThemAll) {
  const auto client =
      ConnectTo({kGreeting, kFirstReply, "{\"return\": 5, \"id\": 2}\n", ScriptedPeer::kSilence});
  ASSERT_TRUE(client) << client.error().message;
  const auto lost = (*client)->ExecuteAll({{"query-status"}, {"query-kvm"}}, milliseconds(50));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::kTimeout);
  EXPECT_THAT(lost.error().message, HasSubstr("'query-kvm'"));
}

// One command, because the peer may hear two at once.
TEST_F(QmpWithHostilePeer, ALateAnswerToWhatWasAskedAtOnceIsDropped) {
  const auto client = ConnectTo({kGreeting, kFirstReply, "",
                                 "{\"return\": \"late\", \"id\": 2}\n"
                                 "{\"return\": \"mine\", \"id\": 3}\n"});
  ASSERT_TRUE(client) << client.error().message;
  EXPECT_FALSE((*client)->ExecuteAll({{"query-status"}}, milliseconds(50)));
  const auto answer = (*client)->Execute("query-status");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, "mine");
}

TEST_F(QmpWithHostilePeer, AnErrorOfNoCommandIsTheOldestOnes) {
  const auto client = ConnectTo({kGreeting, kFirstReply,
                                 "{\"error\": {\"desc\": \"what?\"}}\n"
                                 "{\"return\": 5, \"id\": 3}\n",
                                 ScriptedPeer::kSilence});
  ASSERT_TRUE(client) << client.error().message;
  const auto answers = (*client)->ExecuteAll({{"query-status"}, {"query-kvm"}});
  ASSERT_TRUE(answers) << answers.error().message;
  EXPECT_THAT((*answers)[0].error().message, HasSubstr("'query-status'"));
  EXPECT_EQ((*answers)[1].value(), 5);
}

TEST_F(QmpWithHostilePeer, OfSeveralCommandsOneAnsweredByAnEndFailsThemAll) {
  const auto client = ConnectTo({kGreeting, kFirstReply, "{\"return\": 5, \"id\": 2}\n"});
  ASSERT_TRUE(client) << client.error().message;
  const auto lost = (*client)->ExecuteAll({{"query-status"}, {"query-kvm"}});
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::kPeer);
  EXPECT_TRUE((*client)->broken());
}

TEST_F(QmpWithHostilePeer, AFloodOfUnknownEventsKeepsTheNewestOnly) {
  std::string flood;
  for (int i = 0; i < 1000; ++i) flood += fmt::format("{{\"event\": \"E{}\"}}\n", i);
  const auto client = ConnectTo({kGreeting, kFirstReply, flood + "{\"return\": {}, \"id\": 2}\n"});
  ASSERT_TRUE(client) << client.error().message;
  ASSERT_TRUE((*client)->Execute("query-status"));
  EXPECT_FALSE((*client)->WaitEvent("E0", milliseconds(1)));
  EXPECT_TRUE((*client)->WaitEvent("E999", milliseconds(1)));
}

}  // namespace
}  // namespace faultline::test
