#include "engine/app/routed_lane_host.h"

#include <utility>

namespace faultline {

void RoutedLaneHost::Give(Offer offer) {
  {
    const std::lock_guard lock(mutex_);
    offer_ = std::make_unique<Offer>(std::move(offer));
    offered_.store(true, std::memory_order_release);
  }
  ring_();
}

std::unique_ptr<DirectChannel> RoutedLaneHost::TakeDirect() {
  if (!offered_.load(std::memory_order_acquire)) return nullptr;
  std::unique_ptr<Offer> offer;
  {
    const std::lock_guard lock(mutex_);
    offered_.store(false, std::memory_order_relaxed);
    offer.swap(offer_);
  }
  if (!offer) return nullptr;
  reading_.store(true, std::memory_order_relaxed);
  return std::make_unique<rdma::ReadChannel>(std::move(offer->connection), offer->memory, reactor_);
}

void RoutedLaneHost::NoteDirectLost() {
  reading_.store(false, std::memory_order_relaxed);
  on_lost_();
}

}  // namespace faultline
