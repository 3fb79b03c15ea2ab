#include "tests/simulation/network.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace faultline::simulation {

bool Network::Runnable() const { return WakesAt() <= world.Now(); }

Nanos Network::WakesAt() const {
  Nanos next = Nanos::max();
  for (const Lane* lane : lanes) next = std::min(next, lane->NextAt());
  return next;
}

void Network::Step() {
  const size_t start = world.random.Below(lanes.size());
  for (size_t i = 0; i < lanes.size(); ++i) {
    Lane* lane = lanes[(start + i) % lanes.size()];
    if (lane->NextAt() > world.Now()) continue;
    if (cuts < habits.cuts_max && world.random.OneIn(habits.cut_one_in)) Cut(*lane);
    return lane->Deliver();
  }
}

void Network::Cut(Lane& lane) {
  ++cuts;
  lane.Break();  // bytes that are under way still land until the lane is closed
}

Lane::Lane(Network& network, size_t capacity, bool overtakable)
    : network_(network), capacity_(capacity), overtakable_(overtakable) {
  network_.lanes.push_back(this);
}

Lane::~Lane() {
  std::erase(network_.lanes, this);
  DisownAll();
}

size_t Lane::Room() const { return fetches_.size() < capacity_ ? capacity_ - fetches_.size() : 0; }

void Lane::Post(PageRun run) {
  network_.world.Yield();
  const uint64_t first = run.first.value();
  Law(!closed_ && Room() > 0, "a run is posted only where there is room", first);
  Law(network_.geometry.IsRequestable(run), "only requestable runs are posted", first);
  Fetch fetch{.left = run, .id = next_id_++};
  if (!MayBeOvertaken(run)) {
    for (PageIndex page = run.first; page < run.end(); ++page) Own(page);
    fetch.begun = true;
    fetch.overtaken.resize(run.count.value());
  }
  fetches_.push_back(std::move(fetch));
  network_.world.Yield();
}

/// From here on bytes may land in the page, until somebody reaps it or the lane is closed.
void Lane::Own(PageIndex page) {
  Law(IsLanding(network_.ledger->State(page)), "bytes land in claimed pages only", page.value());
  Law(network_.memory.owner(page) == nullptr, "no page is landed in by two lanes at once",
      page.value());
  Law(!network_.memory.was_complete(page), "no page is fetched again once it was complete",
      page.value());
  network_.memory.SetOwner(page, this);
}

size_t Lane::NextToBegin() const {
  const auto next = std::ranges::find_if(
      fetches_, [](const Fetch& each) { return each.stage == Stage::kReply && !each.begun; });
  return static_cast<size_t>(next - fetches_.begin());
}

/// While the ledger is asked, other replies come and land: where this one stands may change.
void Lane::BeginReplies() {
  for (size_t next = NextToBegin(); next < fetches_.size(); next = NextToBegin()) {
    const uint64_t id = fetches_[next].id;
    const PageRun run = fetches_[next].left;
    const uint64_t overtaken = network_.ledger->BeginLanding(run);
    Fetch& fetch = *std::ranges::find(fetches_, id, &Fetch::id);
    fetch.begun = true;
    fetch.at = Later();
    for (uint64_t i = 0; i < run.count.value(); ++i) {
      fetch.overtaken.push_back(((overtaken >> i) & 1) != 0);
      if (!fetch.overtaken.back()) Own(run.first + PageCount(i));
    }
  }
}

/// Nothing of ours lands any more.
void Lane::DisownAll() {
  const auto disown = [this](PageRun run) {
    for (PageIndex page = run.first; page < run.end(); ++page) {
      if (network_.memory.owner(page) == this) network_.memory.SetOwner(page, nullptr);
    }
  };
  for (const Fetch& fetch : fetches_) disown(fetch.left);
  for (const Arrival& arrival : arrivals_) disown(arrival.run);
}

/// REQUIRES: closed; they had begun, and were not reported.
void Lane::Abandon(PageRun pages) {
  if (MayBeOvertaken(pages)) network_.ledger->AbandonLanding(pages);
}

Nanos Lane::Later() {
  Random& random = network_.world.random;
  return network_.world.Now() +
         Nanos(static_cast<int64_t>(random.Between(100, network_.habits.delay_ns_max)));
}

void Lane::Flush() {
  BeginReplies();
  for (Fetch& fetch : fetches_) {
    if (fetch.stage != Stage::kQueued) continue;
    fetch.stage = Stage::kRequest;
    fetch.at = Later();
  }
}

bool Lane::HasQueued() const {
  return std::any_of(fetches_.begin(), fetches_.end(),
                     [](const Fetch& fetch) { return fetch.stage == Stage::kQueued; });
}

Nanos Lane::NextAt() const {
  Nanos next = Nanos::max();
  for (const Fetch& fetch : fetches_) {
    if (fetch.MayMove()) next = std::min(next, fetch.at);
  }
  return next;
}

void Lane::Deliver() {
  const Nanos now = network_.world.Now();
  const auto due = std::find_if(fetches_.begin(), fetches_.end(), [now](const Fetch& fetch) {
    return fetch.MayMove() && fetch.at <= now;
  });
  if (due == fetches_.end()) return;
  if (due->stage == Stage::kReply) {
    LandPiece(*due);
    if (due->left.empty()) fetches_.erase(due);
    return;
  }
  auto words = network_.source.Answer(due->left, due->id);
  Law(words.has_value(), "the source answers every request", due->left.first.value());
  due->words = *std::move(words);
  due->stage = Stage::kReply;
  due->at = Later();
}

// The next few pages, all data or all zero, land and become an arrival; or all are overtaken.
void Lane::LandPiece(Fetch& fetch) {
  GuestMemory& memory = network_.memory;
  Random& random = network_.world.random;
  const bool zero = fetch.words[0] == 0;
  const bool overtaken = fetch.overtaken[0];
  if (!zero && !overtaken && random.Percent(network_.habits.torn_percent)) {
    memory.LandTorn(fetch.left.first);
    fetch.at = Later();
    return;
  }
  const size_t limit = random.OneIn(3) ? random.Between(1, fetch.words.size()) : fetch.words.size();
  size_t count = 0;
  while (count < limit && (fetch.words[count] == 0) == zero &&
         fetch.overtaken[count] == overtaken) {
    ++count;
  }
  const PageRun piece{fetch.left.first, PageCount(count)};
  for (size_t i = 0; i < count && !zero && !overtaken; ++i) {
    memory.Land(piece.first + PageCount(i), fetch.words[i]);
  }
  const auto done = static_cast<ptrdiff_t>(count);
  fetch.words.erase(fetch.words.begin(), fetch.words.begin() + done);
  fetch.overtaken.erase(fetch.overtaken.begin(), fetch.overtaken.begin() + done);
  fetch.left = {piece.end(), fetch.left.count - piece.count};
  fetch.at = Later();
  arrivals_.push_back({.run = piece, .zero = zero, .overtaken = overtaken});
  // Any order: RDMA completions of one lane come as they like.
  std::swap(arrivals_.back(), arrivals_[random.Below(arrivals_.size())]);
}

size_t Lane::Reap(std::span<Arrival> out) {
  network_.world.Yield();
  Law(!closed_, "a closed lane is not reaped", 0);
  size_t count = 0;
  while (count < out.size() && !arrivals_.empty()) {
    const Arrival arrival = arrivals_.back();
    arrivals_.pop_back();
    out[count++] = arrival;
    if (arrival.overtaken) continue;
    for (PageIndex page = arrival.run.first; page < arrival.run.end(); ++page) {
      network_.memory.SetOwner(page, nullptr);
    }
  }
  return count;
}

void Lane::Close() {
  Law(!closed_, "a lane is closed once", 0);
  network_.world.Yield();  // late bytes still land …
  closed_ = true;          // … and from here on none does
  DisownAll();
  const std::vector<Fetch> fetches = std::exchange(fetches_, {});
  const std::vector<Arrival> arrivals = std::exchange(arrivals_, {});
  for (const Fetch& fetch : fetches) {
    unanswered_.push_back(fetch.left);
    for (size_t i = 0; i < fetch.overtaken.size(); ++i) {
      if (!fetch.overtaken[i]) Abandon({fetch.left.first + PageCount(i), PageCount(1)});
    }
  }
  for (const Arrival& arrival : arrivals) {
    unanswered_.push_back(arrival.run);
    if (!arrival.overtaken) Abandon(arrival.run);
  }
  network_.world.Yield();
}

std::span<const PageRun> Lane::Unanswered() const {
  // Before Close this is what a careless caller would get: pieces that may still land.
  if (closed_) return unanswered_;
  const_cast<Lane*>(this)->unanswered_.clear();
  for (const Fetch& fetch : fetches_) const_cast<Lane*>(this)->unanswered_.push_back(fetch.left);
  return unanswered_;
}

ByteCount Lane::InFlight() const {
  ByteCount total;
  for (const Fetch& fetch : fetches_) total += network_.geometry.BytesOf(fetch.left);
  for (const Arrival& arrival : arrivals_) total += network_.geometry.BytesOf(arrival.run);
  return total;
}

ReadySet SimReactor::Ready() const {
  ReadySet ready;
  if (watches_faults_ && memory_.HasEvents()) ready.Add(ReadyToken::kFaults);
  if (lane_ != nullptr && lane_->HasNews()) ready.Add(ReadyToken::kLane);
  if (rung_) ready.Add(ReadyToken::kMailbox);
  return ready;
}

ReadySet SimReactor::Wait(Nanos timeout) {
  if (lane_ != nullptr) lane_->Flush();
  world_.Yield();
  const ReadySet ready = Ready();
  const Nanos until = timeout == Nanos::max() ? timeout : world_.Now() + timeout;
  sleeps_until_ = ready.empty() ? until : Nanos(0);
  if (ready.Has(ReadyToken::kMailbox)) rung_ = false;
  return ready;
}

}  // namespace faultline::simulation
