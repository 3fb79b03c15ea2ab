#include "tests/tcp/loopback.h"

#include <algorithm>
#include <array>

#include "engine/core/check.h"
#include "engine/tcp/deadline.h"

namespace faultline::test {
namespace {

constexpr Nanos kPatience = std::chrono::seconds(10);

std::unique_ptr<TcpReactor> Make(IoPreference preference) {
  auto reactor = MakeReactor(preference);
  FAULTLINE_CHECK(reactor.has_value());
  return *std::move(reactor);
}

}  // namespace

Endpoint AnyPort(Family family) { return Endpoint{family == Family::kV4 ? "127.0.0.1" : "::1", 0}; }

SocketPair Connect(Family family) {
  auto listener = Listener::Create(AnyPort(family));
  FAULTLINE_CHECK(listener.has_value());
  auto dialled = Dial(listener->endpoint());
  auto accepted = listener->Accept(kPatience);
  FAULTLINE_CHECK(dialled.has_value() && accepted.has_value());
  return {std::move(dialled->socket), std::move(accepted->socket)};
}

std::string NameOf(const testing::TestParamInfo<LaneParameter>& info) {
  const bool uring = std::get<0>(info.param) == IoPreference::kUring;
  const bool v4 = std::get<1>(info.param) == Family::kV4;
  return std::string(uring ? "Uring" : "Epoll") + (v4 ? "V4" : "V6");
}

DestinationLane::DestinationLane(IoPreference preference, const Geometry& geometry,
                                 tcp::UniqueFd socket, Nanos silence_max, Unpacker* unpacker)
    : ram_(geometry), reactor_(Make(preference)) {
  ram_.FillWith(kUntouched);
  channel_ = reactor_->OpenLane(std::move(socket), ram_.landing(), silence_max, unpacker);
}

bool DestinationLane::PumpUntil(const std::function<bool()>& done) {
  const Nanos deadline = tcp::MonotonicNow() + kPatience;
  std::array<Arrival, 16> batch;
  while (!done() && tcp::MonotonicNow() < deadline) {
    reactor_->Wait(std::chrono::milliseconds(50));
    size_t count = 0;
    do {
      count = channel_->Reap(batch);
      for (const Arrival& arrival : std::span(batch).first(count)) {
        arrivals_.push_back(arrival);
        pages_arrived_ += arrival.run.count.value();
      }
    } while (count == batch.size());
  }
  return done();
}

bool DestinationLane::PumpUntilBroken() {
  return PumpUntil([&] { return channel_->Health() == LaneHealth::kBroken; });
}

bool DestinationLane::PumpUntilPages(uint64_t pages) {
  return PumpUntil([&] { return pages_arrived_ >= pages; });
}

bool DestinationLane::FetchAll(const std::vector<PageRun>& runs) {
  uint64_t posted_pages = pages_arrived_;
  for (const PageRun& run : runs) {
    if (!PumpUntil([&] { return channel_->Room() > 0; })) return false;
    Post(run);
    posted_pages += run.count.value();
  }
  return PumpUntilPages(posted_pages);
}

}  // namespace faultline::test
