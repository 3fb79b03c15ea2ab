// The destination's kernel: the guest's page tables, the page cache behind them (the alias), and
// one userfaultfd with MISSING|MINOR events, as the engine sees it through FaultSource and
// PagePlacer. Pages hold one word instead of bytes, so that thousands of migrations fit a second.
//
// Also the oracle: what each page may read as, kept by what the guest did.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "engine/core/fault_source.h"
#include "engine/core/geometry.h"
#include "engine/core/ledger.h"
#include "engine/core/page_placer.h"
#include "tests/simulation/world.h"

namespace faultline::simulation {

using Word = uint64_t;
inline constexpr Word kTorn = 0x7EA2'0000'0000'0000;  ///< a landing that has not ended
inline constexpr Word kSourceTag = 0x5000'0000'0000'0000;
inline constexpr Word kGuestTag = 0x6000'0000'0000'0000;

/// Sleeps until woken; the guest's threads.
class Sleeper {
 public:
  virtual ~Sleeper() = default;
  virtual void Wake() = 0;
};

class GuestMemory final : public FaultSource, public PagePlacer, public LedgerWatcher {
 public:
  /// `source[p]`: the word that the source's page p holds; 0 for a zero page or a hole.
  GuestMemory(World& world, std::vector<Word> source);

  // What the engine calls.
  FaultBatch Read() override;
  [[nodiscard]] int WaitFd() const override { return 0; }
  PlaceResult MapHeld(PageRun run) override;
  PlaceResult MapZero(PageRun run) override;
  PlaceResult MapAgain(PageRun run) override;
  void Empty(PageRun run) override;
  void Wake(PageRun run) override;
  void Retire(PageRun run) override;

  // What the guest's threads do.
  /// True: done. False: the thread sleeps; when woken it tries again.
  bool ReadWord(PageIndex page, Sleeper& thread);
  bool WriteWord(PageIndex page, Sleeper& thread);
  [[nodiscard]] bool IsBeingDiscarded(PageIndex page) const { return At(page).discards > 0; }
  /// Until FinishRemove the pages may read as before or as zero.
  void BeginDiscard(PageRun run);
  void Punch(PageRun run);
  void PunchSilently(PageRun run);
  /// Queues REMOVE; nobody may map anything until FinishRemove. `read` becomes true.
  void StartRemove(PageRun run, bool* read);
  void AllowMapping() { --changing_; }
  void FinishRemove(PageRun run, bool punches);
  /// The kernel drops a page-table entry (swap, collapse): the next touch is a MINOR fault.
  void Zap(PageIndex page) { At(page).mapped = false; }

  // What the network and the allocator ahead of need do.
  void LandTorn(PageIndex page);
  void Land(PageIndex page, Word word);
  void Allocate(PageIndex page);
  /// At most one lane may write into a page.
  void SetOwner(PageIndex page, const void* lane) { At(page).owner = lane; }
  [[nodiscard]] const void* owner(PageIndex page) const { return At(page).owner; }
  [[nodiscard]] bool was_complete(PageIndex page) const { return At(page).was_complete; }

  // What the test does.
  void SetLedger(const Ledger* ledger) { ledger_ = ledger; }
  /// A step of the fault loop has ended: what it read, it has applied.
  void ReadIsApplied() { unapplied_.clear(); }
  /// The engine died: what it had read is lost.
  void ForgetRead();
  void OnTransition(PageIndex page, uint8_t before, uint8_t after) override;
  void EndGuest() { gone_ = true; }
  [[nodiscard]] bool gone() const { return gone_; }
  [[nodiscard]] bool HasEvents() const { return gone_ || !queue_.empty(); }
  /// Who sleeps where, for the report of a run that does not end.
  [[nodiscard]] std::string Describe() const;
  /// Every page that is complete reads as it should.
  void CheckAll() const;

 private:
  struct Page {
    Word word = 0;
    bool cached = false;          ///< in the page cache, which is the alias
    bool mapped = false;          ///< in the guest's page tables
    bool retired = false;         ///< the kernel maps it by itself
    bool was_complete = false;    ///< the ledger has called it Held, Hole or Released
    int discards = 0;             ///< under way: from the guest's first step to its last
    bool discard_unread = false;  ///< and the engine has not read of it
    bool allocated_late = false;  ///< ahead of need, but after somebody had asked for the page
    const void* owner = nullptr;
    std::vector<Sleeper*> sleepers;
    // May read as `value`, or as zero, or as what the source had.
    Word value = 0;
    bool may_be_zero = false;
    bool may_be_source = false;
  };
  struct Event {
    PageRun removed;  ///< empty for a fault
    PageIndex fault;
    bool* read = nullptr;
  };

  Page& At(PageIndex page) { return pages_[page.value()]; }
  [[nodiscard]] const Page& At(PageIndex page) const { return pages_[page.value()]; }
  void TraceRun(PageRun run, const char* what) const;
  /// False: the thread sleeps.
  bool IsThere(PageIndex page, Sleeper& thread);
  void WakeSleepers(PageIndex page);
  void CheckWord(const Page& page, PageIndex index) const;
  [[nodiscard]] bool IsUnapplied(PageIndex page) const;
  PlaceResult MapEach(PageRun run, bool zero_if_missing);

  World& world_;
  const std::vector<Word> source_;
  const Ledger* ledger_ = nullptr;
  std::vector<Page> pages_;
  std::deque<Event> queue_;
  int changing_ = 0;  ///< the kernel's mmap_changing: REMOVE events that are not over
  bool gone_ = false;
  Word next_version_ = kGuestTag + 1;
  std::vector<PageRun> unapplied_;  ///< REMOVE events that the engine has read just now
  std::vector<PageRun> batch_removed_;
  std::vector<faultline::Fault> batch_faults_;
};

}  // namespace faultline::simulation
