// A lane with two ways: direct (one-sided READs) for the pages that allow it, served (asked of the
// source's page server) for all others. To the loops it is one lane.
//
// The served way can bring every page. So a direct lane may fail, or be missing, at any time:
// it is closed, and once it is quiet what it owed is asked for again on the served lane, under the
// same claim. The loops notice nothing, and nothing is lost. A new direct lane is taken as soon
// as there is one. If the served lane breaks, the routed lane does.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "engine/core/direct_channel.h"
#include "engine/core/page_channel.h"

namespace faultline {

/// Used by one thread.
class RoutedChannel final : public PageChannel {
 public:
  /// A run is posted as so many pieces at most: where it would go back and forth more often, its
  /// rest is served.
  static constexpr size_t kPiecesMax = 4;

  /// `lanes` outlives the channel.
  RoutedChannel(std::unique_ptr<PageChannel> served, DirectLanes& lanes);

  [[nodiscard]] size_t Room() const override;
  void Post(PageRun run) override;
  void SendNow() override;
  size_t Reap(std::span<Arrival> out) override;
  [[nodiscard]] LaneHealth Health() const override { return served_->Health(); }
  void Close() override;
  [[nodiscard]] std::span<const PageRun> Unanswered() const override;
  [[nodiscard]] ByteCount WireBytes() const override;

  [[nodiscard]] bool has_direct() const { return direct_ != nullptr; }

 private:
  /// More than any lane has outstanding: nothing is allocated while pages wait.
  static constexpr size_t kOwedMax = 1024;

  void LoseDirect();
  void ServeOwed();
  static void AppendTo(std::vector<PageRun>& list, std::span<const PageRun> runs);

  std::unique_ptr<PageChannel> served_;
  DirectLanes& lanes_;
  std::unique_ptr<DirectChannel> direct_;
  std::vector<PageRun> owed_;  ///< of a lost direct lane; leaves as the served lane has room
  std::vector<PageRun> unanswered_;
  ByteCount lost_wire_bytes_;  ///< of direct lanes that are gone
  bool closed_ = false;
};

}  // namespace faultline
