// The source and the wire: lanes whose requests are answered by the real PageServer, in pieces,
// in any order, late, or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/core/overtakable_landing.h"
#include "engine/core/page_channel.h"
#include "engine/core/page_server.h"
#include "engine/core/reactor.h"
#include "tests/simulation/guest_memory.h"
#include "tests/simulation/world.h"

namespace faultline::simulation {

class Lane;

/// Guest RAM at the source. Content is one word per page, in its first or its last bytes.
class SourceRam final : public PageReader {
 public:
  SourceRam(Random& random, const Geometry& geometry, uint64_t zero_percent, uint64_t hole_percent);
  ~SourceRam() override;

  bool Read(PageRun run, std::span<std::byte> out) override;
  [[nodiscard]] const std::vector<Word>& words() const { return words_; }
  [[nodiscard]] const std::vector<PageRun>& holes() const { return holes_; }
  /// The word of every page of the answer; nothing if the server found the request malformed.
  std::optional<std::vector<Word>> Answer(PageRun run, uint64_t id);

 private:
  [[nodiscard]] Word* FirstWord(PageIndex page) const;
  [[nodiscard]] Word* LastWord(PageIndex page) const;

  const Geometry& geometry_;
  std::vector<Word> words_;
  std::vector<bool> is_hole_;
  std::vector<PageRun> holes_;
  PresenceMap presence_;
  std::optional<RamWindow> window_;
  std::optional<PageServer> server_;
};

struct NetworkHabits {
  uint64_t delay_ns_max = 50'000;
  uint64_t torn_percent = 20;  ///< a piece is seen half landed before it is complete
  uint64_t cut_one_in = 0;     ///< per piece: the link breaks
  uint64_t cuts_max = 0;
};

/// All lanes of the engine that lives now. A step moves one message of one lane on.
class Network final : public Actor {
 public:
  Network(World& its_world, const Geometry& its_geometry, GuestMemory& its_memory,
          SourceRam& its_source, NetworkHabits its_habits)
      : world(its_world),
        geometry(its_geometry),
        memory(its_memory),
        source(its_source),
        habits(its_habits) {}

  [[nodiscard]] bool Runnable() const override;
  void Step() override;
  [[nodiscard]] Nanos WakesAt() const override;

  void SetLedger(Ledger* ledger_now) { ledger = ledger_now; }
  void Cut(Lane& lane);

  World& world;
  const Geometry& geometry;
  GuestMemory& memory;
  SourceRam& source;
  NetworkHabits habits;
  Ledger* ledger = nullptr;
  std::vector<Lane*> lanes;
  uint64_t cuts = 0;
};

class Lane final : public PageChannel {
 public:
  /// `overtakable`: it lands as in an OvertakableLanding.
  Lane(Network& network, size_t capacity, bool overtakable);
  ~Lane() override;

  [[nodiscard]] size_t Room() const override;
  void Post(PageRun run) override;
  size_t Reap(std::span<Arrival> out) override;
  [[nodiscard]] LaneHealth Health() const override {
    return broken_ ? LaneHealth::kBroken : LaneHealth::kOpen;
  }
  void Close() override;
  [[nodiscard]] std::span<const PageRun> Unanswered() const override;
  [[nodiscard]] ByteCount WireBytes() const override { return ByteCount(0); }

  /// With Reactor::Wait: what is queued leaves.
  void Flush();
  [[nodiscard]] bool HasQueued() const;
  [[nodiscard]] bool HasNews() const {
    return broken_ || !arrivals_.empty() || NextToBegin() < fetches_.size();
  }
  void Break() { broken_ = true; }
  /// When the next message of this lane moves; max if none is under way.
  [[nodiscard]] Nanos NextAt() const;
  /// REQUIRES: NextAt() has come.
  void Deliver();
  [[nodiscard]] ByteCount InFlight() const;

 private:
  enum class Stage : uint8_t { kQueued, kRequest, kReply };
  struct Fetch {
    PageRun left;  ///< not landed yet
    Stage stage = Stage::kQueued;
    Nanos at{};
    uint64_t id = 0;
    std::vector<Word> words{};      ///< of `left`
    bool begun = false;             ///< bytes may land, but for …
    std::vector<bool> overtaken{};  ///< … what faults have overtaken, of `left`
    [[nodiscard]] bool MayMove() const {
      return stage == Stage::kRequest || (stage == Stage::kReply && begun);
    }
  };
  [[nodiscard]] bool MayBeOvertaken(PageRun run) const {
    return overtakable_ && IsOvertakable(network_.geometry, run);
  }
  void Own(PageIndex page);
  /// Of a reply that is here and has not begun; fetches_.size(): there is none.
  [[nodiscard]] size_t NextToBegin() const;
  void BeginReplies();
  void DisownAll();
  void Abandon(PageRun pages);
  Nanos Later();
  void LandPiece(Fetch& fetch);

  Network& network_;
  size_t capacity_;
  const bool overtakable_;
  uint64_t next_id_ = 1;
  bool broken_ = false;
  bool closed_ = false;
  std::vector<Fetch> fetches_;
  std::vector<Arrival> arrivals_;
  std::vector<PageRun> unanswered_;
};

/// What one thread of the engine waits on. Its Wait returns at once; a thread that found nothing
/// is not run again before something is ready or its time has come.
class SimReactor final : public Reactor {
 public:
  SimReactor(World& world, GuestMemory& memory) : world_(world), memory_(memory) {}
  void Watch(int, ReadyToken) override { watches_faults_ = true; }
  void Unwatch(ReadyToken) override { watches_faults_ = false; }
  ReadySet Wait(Nanos timeout) override;

  void SetLane(Lane* lane) { lane_ = lane; }
  /// Another thread's message: ends a wait, once.
  void Ring() { rung_ = true; }
  /// With something queued the thread is not in its wait yet, where that leaves.
  [[nodiscard]] bool IsReady() const {
    const bool queued = lane_ != nullptr && lane_->HasQueued();
    return queued || !Ready().empty() || world_.Now() >= sleeps_until_;
  }
  [[nodiscard]] Nanos sleeps_until() const { return sleeps_until_; }

 private:
  [[nodiscard]] ReadySet Ready() const;

  World& world_;
  GuestMemory& memory_;
  Lane* lane_ = nullptr;
  bool watches_faults_ = false;
  bool rung_ = false;
  Nanos sleeps_until_{0};
};

}  // namespace faultline::simulation
