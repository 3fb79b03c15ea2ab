#include "tests/simulation/guest_memory.h"

#include <algorithm>
#include <utility>

namespace faultline::simulation {
namespace {

PageState StateOf(uint8_t cell) { return static_cast<PageState>(cell & Ledger::kStateBits); }

}  // namespace

GuestMemory::GuestMemory(World& world, std::vector<Word> source)
    : world_(world), source_(std::move(source)), pages_(source_.size()) {
  for (size_t i = 0; i < pages_.size(); ++i) pages_[i].value = source_[i];
}

void GuestMemory::TraceRun(PageRun run, const char* what) const {
  for (PageIndex page = run.first; page < run.end(); ++page) world_.Trace(page, what);
}

// ---- userfaultfd: events

FaultBatch GuestMemory::Read() {
  world_.Yield();
  batch_removed_.clear();
  batch_faults_.clear();
  if (gone_) return {{}, {}, false, true};
  const size_t limit = world_.random.Between(1, 16);
  for (size_t i = 0; i < limit && !queue_.empty(); ++i) {
    const Event event = queue_.front();
    queue_.pop_front();
    if (event.removed.empty()) {
      batch_faults_.push_back({event.fault});
      world_.Trace(event.fault, "fault read");
    } else {
      TraceRun(event.removed, "REMOVE read");
      for (PageIndex page = event.removed.first; page < event.removed.end(); ++page) {
        At(page).discard_unread = false;
      }
      *event.read = true;
      batch_removed_.push_back(event.removed);
    }
  }
  if (world_.random.OneIn(16)) {  // an event whose thread has gone on long ago
    batch_faults_.push_back({PageIndex(world_.random.Below(pages_.size()))});
    world_.Trace(batch_faults_.back().page, "stale fault read");
  }
  unapplied_ = batch_removed_;
  const auto by_page = [](const auto& a, const auto& b) { return a.page < b.page; };
  const auto same_page = [](const auto& a, const auto& b) { return a.page == b.page; };
  std::sort(batch_faults_.begin(), batch_faults_.end(), by_page);
  batch_faults_.erase(std::unique(batch_faults_.begin(), batch_faults_.end(), same_page),
                      batch_faults_.end());
  const FaultBatch batch{batch_removed_, batch_faults_, !queue_.empty(), false};
  world_.Yield();
  return batch;
}

bool GuestMemory::IsThere(PageIndex page, Sleeper& thread) {
  Page& at = At(page);
  if (at.mapped) return true;
  if (at.retired) {
    if (!at.cached) at.word = 0;
    world_.Trace(page, "mapped by the kernel", at.word);
    return at.cached = at.mapped = true;
  }
  world_.Trace(page, "guest sleeps");
  queue_.push_back({{}, page, nullptr});
  if (world_.random.OneIn(20)) queue_.push_back({{}, page, nullptr});
  at.sleepers.push_back(&thread);
  return false;
}

void GuestMemory::WakeSleepers(PageIndex page) {
  world_.Trace(page, "wake", At(page).sleepers.size());
  const std::vector<Sleeper*> sleepers = std::exchange(At(page).sleepers, {});
  for (Sleeper* sleeper : sleepers) sleeper->Wake();
  // The kernel takes a woken thread's unread event off the queue; mostly.
  if (sleepers.empty() || world_.random.OneIn(4)) return;
  std::erase_if(queue_, [page](const Event& e) { return e.removed.empty() && e.fault == page; });
}

std::string GuestMemory::Describe() const {
  std::string text = std::to_string(queue_.size()) + " events unread, " +
                     std::to_string(changing_) + " REMOVE under way, " +
                     std::to_string(ledger_->missing().value()) + " pages missing";
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (pages_[i].sleepers.empty()) continue;
    text += "; " + std::to_string(pages_[i].sleepers.size()) + " asleep on page " +
            std::to_string(i) + " in state " +
            std::to_string(static_cast<int>(ledger_->State(PageIndex(i))));
  }
  return text;
}

// ---- userfaultfd: mapping

PlaceResult GuestMemory::MapHeld(PageRun run) {
  world_.Yield();
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const PageState state = ledger_->State(page);
    Law(state == PageState::kHeld || state == PageState::kReleased,
        "only what the ledger calls Held is mapped with CONTINUE", page.value());
    Law(At(page).owner == nullptr, "nothing may land in a page that is mapped", page.value());
  }
  return MapEach(run, world_.random.OneIn(2));
}

PlaceResult GuestMemory::MapZero(PageRun run) {
  world_.Yield();
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const PageState state = ledger_->State(page);
    Law(state == PageState::kHole || state == PageState::kReleased,
        "only a Hole or a Released page is mapped as zero", page.value());
    Law(At(page).owner == nullptr, "nothing may land in a page that is mapped", page.value());
  }
  return MapEach(run, true);
}

PlaceResult GuestMemory::MapAgain(PageRun run) {
  world_.Yield();
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const PageState state = ledger_->State(page);
    Law(state == PageState::kMapped || state == PageState::kReleased,
        "only a Mapped page is mapped again", page.value());
  }
  return MapEach(run, true);
}

PlaceResult GuestMemory::MapEach(PageRun run, bool zero_if_missing) {
  bool present = false;
  for (PageIndex page = run.first; page < run.end(); ++page) {
    if (gone_) return PlaceResult::kGone;
    if (changing_ > 0) return PlaceResult::kRetry;
    Page& at = At(page);
    if (at.retired) {  // CONTINUE and ZEROPAGE find nothing registered
      present = true;
      WakeSleepers(page);
      continue;
    }
    present = present || at.cached;
    if (!at.cached && zero_if_missing) {
      at.cached = true;
      at.word = 0;
    }
    if (at.cached) at.mapped = true;
    world_.Trace(page, "map", at.word);
    WakeSleepers(page);
    if (world_.random.OneIn(16))
      at.mapped = false;  // reclaimed at once: the next touch faults again
    if (world_.random.OneIn(16)) world_.Yield();
  }
  world_.Yield();
  world_.Yield();
  return present ? PlaceResult::kAlreadyPresent : PlaceResult::kPlaced;
}

void GuestMemory::Empty(PageRun run) {
  world_.Yield();
  for (PageIndex page = run.first; page < run.end(); ++page) {
    Law(At(page).owner == nullptr, "nothing may land in a page that is emptied", page.value());
    At(page).cached = At(page).mapped = false;
    world_.Trace(page, "empty");
  }
  world_.Yield();
}

void GuestMemory::Wake(PageRun run) {
  world_.Yield();
  for (PageIndex page = run.first; page < run.end(); ++page) WakeSleepers(page);
}

void GuestMemory::Retire(PageRun run) {
  world_.Yield();
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const bool whole = !IsMissing(ledger_->State(page)) && !ledger_->IsTouched(page);
    Law(whole, "only what is complete and clean is left to the kernel", page.value());
    Law(At(page).owner == nullptr, "nothing may land in a page that is mapped", page.value());
    At(page).retired = true;
    WakeSleepers(page);
  }
  world_.Yield();
}

// ---- the guest's threads

void GuestMemory::CheckWord(const Page& page, PageIndex index) const {
  const bool right = page.word == page.value || (page.may_be_zero && page.word == 0) ||
                     (page.may_be_source && page.word == source_[index.value()]);
  if (right) return;
  throw Violation("the guest read a wrong word " + std::to_string(page.word) + " instead of " +
                  std::to_string(page.value) + " (page " + std::to_string(index.value()) + ")");
}

bool GuestMemory::ReadWord(PageIndex page, Sleeper& thread) {
  if (!IsThere(page, thread)) return false;
  Page& at = At(page);
  CheckWord(at, page);
  if (at.discards == 0) {  // what it has read, it must read again
    at.value = at.word;
    at.may_be_zero = at.may_be_source = false;
  }
  return true;
}

bool GuestMemory::WriteWord(PageIndex page, Sleeper& thread) {
  if (!IsThere(page, thread)) return false;
  Page& at = At(page);
  CheckWord(at, page);
  if (at.discards > 0)
    return true;  // what it wrote now might or might not survive: nothing to check
  world_.Trace(page, "guest writes", next_version_);
  at.word = at.value = next_version_++;
  at.may_be_zero = at.may_be_source = false;
  return true;
}

void GuestMemory::Punch(PageRun run) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    At(page).cached = At(page).mapped = false;
    At(page).may_be_zero = true;
    world_.Trace(page, "guest punches");
  }
}

// A balloon: no event tells the engine, so bytes that are on their way still come.
void GuestMemory::PunchSilently(PageRun run) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    const PageState state = ledger_->State(page);
    if (IsMissing(state) || state == PageState::kHeld) At(page).may_be_source = true;
    At(page).value = 0;
  }
  Punch(run);
}

void GuestMemory::BeginDiscard(PageRun run) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    ++At(page).discards;
    At(page).discard_unread = true;
    At(page).may_be_zero = true;
  }
}

void GuestMemory::StartRemove(PageRun run, bool* read) {
  ++changing_;
  queue_.push_back({run, {}, read});
}

void GuestMemory::FinishRemove(PageRun run, bool punches) {
  for (PageIndex page = run.first; page < run.end(); ++page) {
    Page& at = At(page);
    at.mapped = false;
    if (punches) at.cached = false;
    if (--at.discards == 0) at.value = 0;
    world_.Trace(page, "guest's discard ends");
  }
}

// ---- bytes from elsewhere

void GuestMemory::LandTorn(PageIndex page) {
  Page& at = At(page);
  Law(!at.mapped, "no byte lands in a page that the guest has", page.value());
  Law(IsLanding(ledger_->State(page)), "bytes land only in pages that were asked for",
      page.value());
  world_.Trace(page, "bytes land");
  at.cached = true;
  at.word = kTorn;
}

void GuestMemory::Land(PageIndex page, Word word) {
  LandTorn(page);
  At(page).word = word;
}

void GuestMemory::Allocate(PageIndex page) {
  if (At(page).cached) return;
  world_.Trace(page, "allocated");
  if (ledger_->State(page) != PageState::kAbsent) At(page).allocated_late = true;
  At(page).cached = true;
  At(page).word = 0;
}

// ---- the ledger, watched

bool GuestMemory::IsUnapplied(PageIndex page) const {
  return std::any_of(unapplied_.begin(), unapplied_.end(),
                     [page](const PageRun& run) { return run.Contains(page); });
}

void GuestMemory::ForgetRead() {
  for (const PageRun& run : unapplied_) {
    for (PageIndex page = run.first; page < run.end(); ++page) At(page).may_be_source = true;
  }
  unapplied_.clear();
}

void GuestMemory::OnTransition(PageIndex page, uint8_t before, uint8_t after) {
  world_.Trace(page, "ledger", (uint64_t{before} << 8) + after);
  Page& at = At(page);
  const PageState from = StateOf(before);
  const PageState to = StateOf(after);
  if (from == to) return;
  Law(!(at.was_complete && IsMissing(to)), "what was complete is never missing again",
      page.value());
  if (!IsMissing(to)) at.was_complete = true;
  // What the guest punches itself meanwhile may be gone; what is there must be right.
  if (to == PageState::kHeld) {
    Law(at.owner == nullptr, "a page is Held only when its landing has ended", page.value());
    const bool punched = at.may_be_zero && at.word == 0;
    Law(!at.cached || punched || at.word == source_[page.value()], "a Held page is complete",
        page.value());
    // The engine cannot know yet that the guest has given the page up.
    if (at.discard_unread || IsUnapplied(page)) at.may_be_source = true;
  }
  if (to == PageState::kHole || (from == PageState::kDiscarding && to == PageState::kReleased)) {
    Law(at.owner == nullptr, "a page is empty only when its landing has ended", page.value());
    Law(!at.cached || (at.word == 0 && at.allocated_late),
        "what is Hole or discarded has no memory", page.value());
  }
}

void GuestMemory::CheckAll() const {
  for (size_t i = 0; i < pages_.size(); ++i) {
    const Page& at = pages_[i];
    const PageIndex page(i);
    if (IsMissing(ledger_->State(page))) continue;
    Page seen = at;
    if (!at.cached) seen.word = 0;
    CheckWord(seen, page);
  }
}

}  // namespace faultline::simulation
