#include "engine/core/routed_channel.h"

#include <algorithm>
#include <utility>

#include "engine/core/check.h"

namespace faultline {

RoutedChannel::RoutedChannel(std::unique_ptr<PageChannel> served, DirectLanes& lanes)
    : served_(std::move(served)), lanes_(lanes), direct_(lanes.TakeDirect()) {
  owed_.reserve(kOwedMax);
  unanswered_.reserve(kOwedMax);
}

size_t RoutedChannel::Room() const {
  if (!owed_.empty()) return 0;
  const size_t served = served_->Room();
  const size_t room = direct_ ? std::min(served, direct_->Room()) : served;
  return direct_ ? room / kPiecesMax : room;
}

void RoutedChannel::Post(PageRun run) {
  for (size_t piece = 1; direct_ && piece < kPiecesMax && !run.empty(); ++piece) {
    const Route route = direct_->RouteOf(run);
    if (route.direct) {
      direct_->Post(route.run);
    } else {
      served_->Post(route.run);
    }
    run = {route.run.end(), run.count - route.run.count};
  }
  if (!run.empty()) served_->Post(run);
}

void RoutedChannel::SendNow() {
  if (direct_) direct_->SendNow();
  served_->SendNow();
}

size_t RoutedChannel::Reap(std::span<Arrival> out) {
  if (closed_) return 0;
  if (!direct_) direct_ = lanes_.TakeDirect();
  size_t count = direct_ ? direct_->Reap(out) : 0;
  if (direct_ && direct_->Health() == LaneHealth::kBroken) LoseDirect();
  if (!owed_.empty()) ServeOwed();
  count += served_->Reap(out.subspan(count));
  return count;
}

void RoutedChannel::LoseDirect() {
  direct_->Close();  // from here on nothing of it lands any more
  AppendTo(owed_, direct_->Unanswered());
  lost_wire_bytes_ += direct_->WireBytes();
  direct_.reset();
  lanes_.NoteDirectLost();
}

void RoutedChannel::ServeOwed() {
  while (!owed_.empty() && served_->Room() > 0) {
    served_->Post(owed_.back());
    owed_.pop_back();
  }
}

void RoutedChannel::Close() {
  if (closed_) return;
  closed_ = true;
  if (direct_) LoseDirect();
  served_->Close();
  AppendTo(unanswered_, owed_);
  AppendTo(unanswered_, served_->Unanswered());
  owed_.clear();
}

std::span<const PageRun> RoutedChannel::Unanswered() const {
  FAULTLINE_CHECK(closed_);
  return unanswered_;
}

ByteCount RoutedChannel::WireBytes() const {
  const ByteCount direct = direct_ ? direct_->WireBytes() : ByteCount(0);
  return served_->WireBytes() + lost_wire_bytes_ + direct;
}

void RoutedChannel::AppendTo(std::vector<PageRun>& list, std::span<const PageRun> runs) {
  FAULTLINE_CHECK(list.size() + runs.size() <= kOwedMax);
  list.insert(list.end(), runs.begin(), runs.end());
}

}  // namespace faultline
