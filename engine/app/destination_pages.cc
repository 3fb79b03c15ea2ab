#include "engine/app/destination_pages.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

namespace faultline {
namespace {

constexpr int kSweepRetriesMax = 20'000;  ///< a second's worth

VmmMap MapOf(const Geometry& geometry, const VmDescription& vm) {
  std::vector<VmmAddr> bases;
  for (const VmRegion& region : vm.regions) bases.push_back(region.base);
  return {geometry, std::move(bases)};
}

}  // namespace

Result<std::unique_ptr<DestinationPages>> DestinationPages::Create(QemuDestination& vm,
                                                                   Geometry geometry,
                                                                   const std::string& state_dir,
                                                                   const PageLimits& limits) {
  auto shape = std::make_unique<const Geometry>(std::move(geometry));
  const VmDescription& description = vm.description();
  FAULTLINE_ASSIGN(LedgerFile ledger,
                   LedgerFile::Create(state_dir, description.pid, shape->page_count()));
  FAULTLINE_ASSIGN(GuestRam ram, GuestRam::Open(*shape, description, RamAccess::kReadWrite));
  VmmMap map = MapOf(*shape, description);
  FAULTLINE_ASSIGN(Attachment attachment, Attachment::Create(vm, map));
  std::unique_ptr<DestinationPages> pages(new DestinationPages(
      std::move(shape), std::move(ram), std::move(map), std::move(attachment), std::move(ledger)));
  FAULTLINE_TRY(pages->StartThreads(limits));
  return pages;
}

DestinationPages::DestinationPages(std::unique_ptr<const Geometry> geometry, GuestRam ram,
                                   VmmMap map, Attachment attachment, LedgerFile ledger_file)
    : geometry_(std::move(geometry)),
      ram_(std::move(ram)),
      page_tables_(ram_),
      map_(std::move(map)),
      attachment_(std::move(attachment)),
      ledger_file_(std::move(ledger_file)),
      ledger_(ledger_file_.cells()),
      placer_(attachment_.uffd(), map_, ram_),
      follower_(attachment_.process().pid()),
      source_(attachment_.uffd(), map_, attachment_.process().pidfd(), &follower_),
      order_(*geometry_),
      memory_ahead_(ram_, push_pause_, clock_),
      sweep_(PartsFor(sweep_metrics_)) {}

DestinationPages::~DestinationPages() { StopThreads(); }

Landing::Parts DestinationPages::PartsFor(ThreadMetrics& metrics) {
  LowestDelay* const trips = bulk_window_ ? &bulk_window_->urgent_trips() : nullptr;
  return {*geometry_, ledger_, placer_, waiters_, clock_, metrics.faults, metrics.landing, trips};
}

PusherLimits DestinationPages::ShareOf(const PageLimits& limits) {
  PusherLimits share;
  if (limits.window) {
    share.window_bytes = ByteCount(limits.window->value() / limits.streams);
  } else {
    share.window = &bulk_window_.emplace(limits.streams);
  }
  share.pause = &push_pause_;
  share.bytes_per_second = limits.bulk_bytes_per_second / limits.streams;
  return share;
}

Status DestinationPages::StartThreads(const PageLimits& limits) {
  for (uint32_t thread = 0; thread <= limits.streams; ++thread) {
    metrics_.push_back(std::make_unique<ThreadMetrics>());
  }
  const PusherLimits share = ShareOf(limits);
  FAULTLINE_ASSIGN(auto fault_reactor, MakeReactor(limits.io));
  // In place: a write would wait for the pusher's, which holds the inode's lock.
  auto fault_area = std::make_unique<AliasLanding>(ram_.window());
  fault_thread_ = std::make_unique<LaneThread<FaultLoop>>(
      "fl-fault", std::move(fault_reactor), std::move(fault_area), [this](Reactor& reactor) {
        return std::make_unique<FaultLoop>(PartsFor(*metrics_[0]), source_, reactor);
      });
  for (uint32_t stream = 0; stream < limits.streams; ++stream) {
    FAULTLINE_ASSIGN(auto reactor, MakeReactor(limits.io));
    FAULTLINE_ASSIGN(auto area, StagedLanding::Create(ram_));
    push_threads_.push_back(std::make_unique<LaneThread<Pusher>>(
        fmt::format("fl-push-{}", stream), std::move(reactor), std::move(area), [&](Reactor& on) {
          return std::make_unique<Pusher>(PartsFor(*metrics_[stream + 1]), order_, on, share);
        }));
  }
  return {};
}

void DestinationPages::GiveLane(LaneKind kind, uint32_t stream, tcp::UniqueFd socket) {
  const std::lock_guard lock(mutex_);
  if (!open_) {
    std::erase_if(kept_, [&](const KeptLane& kept) {
      return kept.kind == kind && kept.stream == stream;  // an older generation of the same lane
    });
    kept_.push_back({kind, stream, std::move(socket)});
  } else if (kind == LaneKind::kUrgent) {
    SendFirst(socket.get());
    fault_thread_->GiveLane(std::move(socket));
  } else {
    push_threads_[stream]->GiveLane(std::move(socket));
  }
}

void DestinationPages::Open() {
  std::vector<KeptLane> kept;
  {
    const std::lock_guard lock(mutex_);
    open_ = true;
    kept.swap(kept_);
  }
  for (KeptLane& lane : kept) GiveLane(lane.kind, lane.stream, std::move(lane.socket));
}

Status DestinationPages::Expect(std::span<const PageRun> runs,
                                const std::function<Status()>& on_piece) {
  FAULTLINE_TRY(ram_.CheckRoom(runs));
  order_.PutFirst(runs);
  std::vector<PageRun> huge;
  for (const PageRun& run : runs) {
    if (ram_.FileOf(run).file_system() == RamFileSystem::kHugetlbfs) {
      FAULTLINE_TRY(Populate(run, on_piece));
    } else if (ram_.AllocatesAhead(run)) {
      huge.push_back(run);
    }
  }
  memory_ahead_.Start(std::move(huge));
  return {};
}

Status DestinationPages::Populate(PageRun rest, const std::function<Status()>& on_piece) {
  const uint64_t page_bytes = geometry_->PageSizeOf(rest.first).bytes();
  const PageCount most(std::max<uint64_t>(1, kPopulatePiece.value() / page_bytes));
  while (!rest.empty()) {
    const PageRun piece{rest.first, std::min(rest.count, most)};
    ledger_.MarkTouched(piece);
    FAULTLINE_TRY(ram_.PopulateWrite(piece));
    FAULTLINE_TRY(on_piece());
    rest = {piece.end(), rest.count - piece.count};
  }
  return {};
}

void DestinationPages::SweepHoles(PageRun run) {
  sweep_.SweepHoles(run);
  // What a REMOVE event stood in the way of; the fault thread reads it in no time.
  for (int i = 0; sweep_.has_retries() && i < kSweepRetriesMax; ++i) {
    std::this_thread::sleep_for(Landing::kRetryPause);
    sweep_.Retry();
  }
}

bool DestinationPages::guest_gone() const {
  return fault_thread_->guest_gone() || !attachment_.process().IsAlive();
}

wire::ProgressBody DestinationPages::progress() const {
  const FaultMetrics& faults = metrics_[0]->faults;
  uint64_t placed = 0;
  for (const auto& metrics : metrics_) placed += metrics->landing.data_bytes.value();
  const auto nanos = [](Nanos value) { return static_cast<uint64_t>(value.count()); };
  return {.missing_pages = ledger_.missing().value(),
          .total_pages = ledger_.page_count().value(),
          .placed_bytes = placed,
          .faults = faults.faults.count.value(),
          .fault_p50_ns = nanos(faults.total.Quantile(0.50)),
          .fault_p99_ns = nanos(faults.total.Quantile(0.99))};
}

Status DestinationPages::Detach() {
  fault_thread_->ExpectEnd();
  for (const auto& thread : push_threads_) thread->ExpectEnd();
  return attachment_.Detach(map_);
}

void DestinationPages::StopThreads() {
  memory_ahead_.Stop();
  for (const auto& thread : push_threads_) thread->Stop();
  if (fault_thread_) fault_thread_->Stop();
}

SummaryJson DestinationPages::Summary(DestinationNumbers numbers) const {
  fault_thread_->AwaitStep();
  for (const auto& thread : push_threads_) thread->AwaitStep();
  FaultMetrics all;
  for (const auto& metrics : metrics_) {
    all.MergeFrom(metrics->faults);
    numbers.data_bytes += ByteCount(metrics->landing.data_bytes.value());
    numbers.zero_pages += metrics->landing.zero_pages.value();
  }
  for (const auto& thread : push_threads_) {
    numbers.wire_bytes += thread->wire_bytes();
    numbers.retries += thread->lanes_lost();
  }
  for (size_t stream = 1; stream < metrics_.size(); ++stream) {
    numbers.pushed_pages += metrics_[stream]->landing.data_pages.value();
  }
  numbers.guest_bytes = geometry_->byte_count();
  numbers.wire_bytes += fault_thread_->wire_bytes();
  numbers.retries += fault_thread_->lanes_lost();
  numbers.hole_pages = sweep_metrics_.landing.zero_pages.value();
  return DestinationPart(numbers, all);
}

}  // namespace faultline
