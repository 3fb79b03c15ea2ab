// The two hand-over machines together: every order of events, on both sides, is walked.
#include "engine/core/phases.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

namespace faultline {
namespace {

using S = SourcePhase;
using D = DestinationPhase;
using SE = SourceEvent;
using DE = DestinationEvent;

/// Both sides, and the messages that may be under way between them.
struct World {
  S source = S::kPreparing;
  D destination = D::kPreparing;
  bool loaded_said = false;
  bool go_said = false;
  bool started_said = false;
  bool released_said = false;

  friend auto operator<=>(const World&, const World&) = default;
};

bool SourceRuns(const World& world) {
  return world.source == S::kPreparing || world.source == S::kResumed;
}
bool DestinationRuns(const World& world) { return MayHaveRun(world.destination); }

class Walk {
 public:
  void From(const World& world) {
    if (!seen_.insert(world).second) return;
    both_ran_ = both_ran_ || (SourceRuns(world) && DestinationRuns(world));
    SourceMoves(world);
    DestinationMoves(world);
  }
  [[nodiscard]] bool both_ran() const { return both_ran_; }
  [[nodiscard]] size_t size() const { return seen_.size(); }
  [[nodiscard]] bool Reached(S source, D destination) const {
    for (const World& world : seen_) {
      if (world.source == source && world.destination == destination) return true;
    }
    return false;
  }

 private:
  void SourceMoves(const World& world) {
    Source(world, SE::kStopping, [](World&) {});
    Source(world, SE::kLinkLost, [](World&) {});
    Source(world, SE::kLinkBack, [](World&) {});
    Source(world, SE::kFailure, [](World&) {});
    if (world.loaded_said) Source(world, SE::kCommit, [](World& w) { w.go_said = true; });
    if (world.started_said) Source(world, SE::kStarted, [](World&) {});
    if (world.released_said) Source(world, SE::kReleased, [](World&) {});
  }
  void DestinationMoves(const World& world) {
    Destination(world, DE::kDeviceState, [](World&) {});
    Destination(world, DE::kLoaded, [](World& w) { w.loaded_said = true; });
    Destination(world, DE::kLinkLost, [](World&) {});
    Destination(world, DE::kLinkBack, [](World&) {});
    Destination(world, DE::kFailure, [](World&) {});
    Destination(world, DE::kReleased, [](World& w) { w.released_said = true; });
    if (world.go_said) Destination(world, DE::kGo, [](World& w) { w.started_said = true; });
  }
  template <class Effect>
  void Source(World world, SE event, Effect effect) {
    const S next = Next(world.source, event);
    if (next == S::kInvalid) return;
    world.source = next;
    effect(world);
    From(world);
  }
  template <class Effect>
  void Destination(World world, DE event, Effect effect) {
    const D next = Next(world.destination, event);
    if (next == D::kInvalid) return;
    world.destination = next;
    effect(world);
    From(world);
  }

  std::set<World> seen_;
  bool both_ran_ = false;
};

TEST(Phases, InNoOrderOfEventsDoBothGuestsRun) {
  Walk walk;
  walk.From(World{});
  EXPECT_FALSE(walk.both_ran());
  EXPECT_GT(walk.size(), 20u) << "the walk went somewhere";
}

TEST(Phases, TheWalkReachesTheGoodEndAndTheSafeFailures) {
  Walk walk;
  walk.From(World{});
  EXPECT_TRUE(walk.Reached(S::kReleased, D::kReleased));
  EXPECT_TRUE(walk.Reached(S::kResumed, D::kFailed));
  EXPECT_TRUE(walk.Reached(S::kPaused, D::kPaused));
}

TEST(Phases, TheSourceResumesOnlyBeforeItCommits) {
  EXPECT_EQ(Next(S::kPreparing, SE::kFailure), S::kResumed);
  EXPECT_EQ(Next(S::kSwitching, SE::kLinkLost), S::kResumed);
  EXPECT_EQ(Next(S::kCommitted, SE::kFailure), S::kPaused);
  EXPECT_EQ(Next(S::kServing, SE::kLinkLost), S::kPaused);
  EXPECT_FALSE(MayResume(S::kCommitted));
  EXPECT_FALSE(MayResume(S::kPaused));
}

TEST(Phases, TheDestinationNeverRunsWithoutGo) {
  EXPECT_EQ(Next(D::kPreparing, DE::kGo), D::kInvalid);
  EXPECT_EQ(Next(D::kLoading, DE::kGo), D::kInvalid);
  EXPECT_EQ(Next(D::kLoaded, DE::kGo), D::kRunning);
  EXPECT_EQ(Next(D::kFailed, DE::kGo), D::kInvalid);
}

TEST(Phases, EveryPhaseHasItsOwnName) {
  std::set<std::string_view> source;
  std::set<std::string_view> destination;
  for (uint8_t i = 0; i < internal::kSourcePhases; ++i) source.insert(Name(static_cast<S>(i)));
  for (uint8_t i = 0; i < internal::kDestinationPhases; ++i) {
    destination.insert(Name(static_cast<D>(i)));
  }
  EXPECT_EQ(source.size(), internal::kSourcePhases);
  EXPECT_EQ(destination.size(), internal::kDestinationPhases);
  EXPECT_FALSE(source.contains("unknown"));
  EXPECT_FALSE(destination.contains("unknown"));
}

}  // namespace
}  // namespace faultline
