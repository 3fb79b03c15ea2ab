#include "engine/app/read_lanes.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "rdma/memlock.h"

namespace faultline {
namespace {

constexpr ByteCount kUrgentPool{uint64_t{1} << 20};
constexpr ByteCount kBulkPool{uint64_t{8} << 20};

std::string NameOf(const wire::LaneIdentity& lane) {
  return fmt::format("{} {}", lane.lane == LaneKind::kUrgent ? "urgent" : "bulk", lane.stream);
}

}  // namespace

ReadLanes::ReadLanes(Plan plan, Parts parts, rdma::Reader reader)
    : plan_(std::move(plan)),
      parts_(std::move(parts)),
      reader_(std::move(reader)),
      table_(parts_.ram.geometry(), plan_.regions),
      local_(std::make_unique<rdma::LocalRegions>(table_, parts_.ram.window(), *reader_.domain)) {}

Result<std::unique_ptr<ReadLanes>> ReadLanes::Create(Plan plan, Parts parts) {
  rdma::RaiseMemlock();
  FAULTLINE_ASSIGN(rdma::Reader reader, rdma::OpenReader(plan.dial));
  std::unique_ptr<ReadLanes> lanes(
      new ReadLanes(std::move(plan), std::move(parts), std::move(reader)));
  FAULTLINE_TRY(lanes->Open());
  lanes->keeper_ = std::thread([raw = lanes.get()] { raw->KeepLanes(); });
  pthread_setname_np(lanes->keeper_.native_handle(), "fl-rdma");
  return lanes;
}

Status ReadLanes::Open() {
  for (size_t i = 0; i < parts_.hosts.size(); ++i) {
    auto lane = std::make_unique<Lane>();
    const bool urgent = i < parts_.urgent_count;
    lane->host = parts_.hosts[i];
    lane->identity = {.lane = urgent ? LaneKind::kUrgent : LaneKind::kBulk,
                      .stream = static_cast<uint32_t>(urgent ? i : i - parts_.urgent_count),
                      .generation = 0,
                      .migration = plan_.migration};
    FAULTLINE_ASSIGN(lane->pool,
                     rdma::LandingPool::Create(*reader_.domain, urgent ? kUrgentPool : kBulkPool));
    pinned_ += lane->pool->bytes().value();
    lane->sink = std::make_unique<FileSink>(parts_.ram);
    lane->host->OnLost([this, raw = lane.get()] { NoteLost(*raw); });
    lanes_.push_back(std::move(lane));
  }
  // All or none: what has been given away works with memory of ours.
  std::vector<rdma::Connection> connections;
  for (const auto& lane : lanes_) {
    FAULTLINE_ASSIGN(rdma::Connection connection, Dial(*lane));
    connections.push_back(std::move(connection));
  }
  for (size_t i = 0; i < lanes_.size(); ++i) Give(*lanes_[i], std::move(connections[i]));
  return {};
}

Result<rdma::Connection> ReadLanes::Dial(Lane& lane) {
  rdma::DialPlan dial = plan_.dial;
  dial.type_of_service = lane.identity.lane == LaneKind::kUrgent ? plan_.urgent_type_of_service
                                                                 : plan_.bulk_type_of_service;
  ++lane.identity.generation;
  return rdma::Dial(reader_, dial, lane.identity);
}

void ReadLanes::Give(Lane& lane, rdma::Connection connection) {
  {
    const std::lock_guard lock(mutex_);
    lane.is_lost = false;
    ++lane.tries;
    lane.dialled_at = clock_.Now();
  }
  lane.host->Give({.connection = std::move(connection),
                   .memory = {.remote = table_,
                              .local = *local_,
                              .alias = parts_.ram.window(),
                              .pool = *lane.pool,
                              .sink = *lane.sink,
                              .message_bytes_max = reader_.limits.message_bytes_max,
                              .read_bytes = lane.read_bytes}});
}

/// On the lane's thread, rarely.
void ReadLanes::NoteLost(Lane& lane) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  spdlog::warn("the {} lane of READs is lost; its pages come over TCP meanwhile",
               NameOf(lane.identity));
  lost_.fetch_add(1, std::memory_order_relaxed);
  const Nanos now = clock_.Now();
  if (now - lane.dialled_at > kProven) lane.tries = 0;
  lane.is_lost = true;
  lane.next_try = now + kPauseFirst * (1 << std::min(lane.tries, kTriesMax));
  changed_.notify_all();
}

void ReadLanes::KeepLanes() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    Lane* const lane = NextLost(clock_.Now());
    if (lane == nullptr) {
      changed_.wait_for(lock, kPauseFirst);
      continue;
    }
    lock.unlock();
    Retry(*lane);
    lock.lock();
  }
}

/// One whose time has come. REQUIRES: mutex_.
ReadLanes::Lane* ReadLanes::NextLost(Nanos now) {
  const auto due = std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& lane) {
    return lane->is_lost && lane->tries < kTriesMax && lane->next_try <= now;
  });
  return due == lanes_.end() ? nullptr : due->get();
}

void ReadLanes::Retry(Lane& lane) {
  Result<rdma::Connection> dialled = Dial(lane);
  if (dialled.has_value()) {
    spdlog::info("the {} lane of READs is back", NameOf(lane.identity));
    return Give(lane, std::move(*dialled));
  }
  const std::lock_guard lock(mutex_);
  ++lane.tries;
  lane.next_try = clock_.Now() + kPauseFirst * (1 << lane.tries);
  spdlog::debug("{}", dialled.error().message);
  if (lane.tries < kTriesMax) return;
  spdlog::warn("the {} lane of READs cannot be built again ({}); its pages come over TCP",
               NameOf(lane.identity), dialled.error().message);
}

void ReadLanes::RegisterAhead(std::function<bool(PageRun)> wanted) {
  wanted_ = std::move(wanted);
  registrar_ = std::thread([this] { RegisterRegions(); });
  pthread_setname_np(registrar_.native_handle(), "fl-register");
}

void ReadLanes::RegisterRegions() {
  for (size_t index = 0; index < local_->size(); ++index) {
    if (!Rest()) return;
    if (!wanted_(table_.regions()[index].run)) continue;
    const Nanos start = clock_.Now();
    const Status done = local_->RegisterOne(index);
    registering_ += (clock_.Now() - start).count();
    if (!done.has_value()) {
      spdlog::warn("{}; pages land by way of a buffer from here on", done.error().message);
      return;
    }
    pinned_ += parts_.ram.geometry().BytesOf(table_.regions()[index].run).value();
  }
}

/// For as long as others come first. False: it is over.
bool ReadLanes::Rest() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Nanos left = parts_.pause.Left(clock_.Now());
    if (left == Nanos(0) && !held_) return true;
    changed_.wait_for(lock, held_ ? kPauseFirst : left);
  }
  return false;
}

void ReadLanes::HoldRegistering(bool hold) {
  const std::lock_guard lock(mutex_);
  held_ = hold;
  changed_.notify_all();
}

void ReadLanes::StopThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (keeper_.joinable()) keeper_.join();
  if (registrar_.joinable()) registrar_.join();
}

ByteCount ReadLanes::read_bytes() const {
  ByteCount sum;
  for (const auto& lane : lanes_) sum += ByteCount(lane->read_bytes.value());
  return sum;
}

ByteCount ReadLanes::pinned() const { return ByteCount(pinned_.load(std::memory_order_relaxed)); }

bool ReadLanes::are_reading() const {
  return std::all_of(lanes_.begin(), lanes_.end(),
                     [](const auto& lane) { return lane->host->is_reading(); });
}

}  // namespace faultline
