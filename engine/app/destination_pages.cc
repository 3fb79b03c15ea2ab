#include "engine/app/destination_pages.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <thread>

namespace faultline {
namespace {

/// How long an urgent thread may poll for a READ: a little more than one takes on real devices.
/// Pushers sleep.
constexpr Nanos kUrgentSpin = std::chrono::microseconds(20);

VmmMap MapOf(const Geometry& geometry, const VmDescription& vm) {
  std::vector<VmmAddr> bases;
  for (const VmRegion& region : vm.regions) bases.push_back(region.base);
  return {geometry, std::move(bases)};
}

std::vector<std::unique_ptr<UffdPlacer>> PlacersOf(const Attachment& attachment,
                                                   const ShardMap& shards, const VmmMap& map,
                                                   const GuestRam& ram) {
  std::vector<std::unique_ptr<UffdPlacer>> placers;
  for (size_t shard = 0; shard < shards.shard_count(); ++shard) {
    placers.push_back(std::make_unique<UffdPlacer>(attachment.uffd(shard), map, ram));
  }
  return placers;
}

}  // namespace

Result<std::unique_ptr<DestinationPages>> DestinationPages::Create(
    const VmDescription& vm, const Attachment::UnprivilegedWay& unprivileged, Geometry geometry,
    const std::string& state_dir, const PageLimits& limits) {
  auto shape = std::make_unique<const Geometry>(std::move(geometry));
  const ShardMap shards(*shape, limits.fault_shards);
  FAULTLINE_ASSIGN(LedgerFile ledger, LedgerFile::Create(state_dir, vm.pid, shape->page_count()));
  FAULTLINE_ASSIGN(GuestRam ram, GuestRam::Open(*shape, vm, RamAccess::kReadWrite));
  // Looked at again: `receive` may have waited for its source for long.
  FAULTLINE_ASSIGN(const std::vector<PageRun> held, ram.DataRuns());
  if (!held.empty()) {
    return Fail(ErrorKind::kRefused,
                "the destination's guest RAM is not empty any more: another "
                "guest may have come; start a QEMU for this one");
  }
  VmmMap map = MapOf(*shape, vm);
  FAULTLINE_ASSIGN(Attachment attachment, Attachment::Create(vm.pid, map, shards, unprivileged));
  std::unique_ptr<DestinationPages> pages(
      new DestinationPages(std::move(shape), std::move(ram), std::move(map), shards,
                           std::move(attachment), std::move(ledger)));
  FAULTLINE_TRY(pages->StartThreads(limits));
  return pages;
}

DestinationPages::DestinationPages(std::unique_ptr<const Geometry> geometry, GuestRam ram,
                                   VmmMap map, const ShardMap& shards, Attachment attachment,
                                   LedgerFile ledger_file)
    : geometry_(std::move(geometry)),
      ram_(std::move(ram)),
      page_tables_(ram_),
      map_(std::move(map)),
      shards_(shards),
      attachment_(std::move(attachment)),
      ledger_file_(std::move(ledger_file)),
      ledger_(ledger_file_.cells()),
      placer_(shards_, PlacersOf(attachment_, shards_, map_, ram_)),
      blocks_(*geometry_, ledger_, placer_),
      order_(*geometry_),
      leading_(*geometry_, order_),
      memory_ahead_(ram_, push_pause_, fault_cores_, clock_),
      sweep_(PartsFor(sweep_metrics_)),
      early_(PartsFor(early_metrics_), [this](PageRun run, std::span<const std::byte> bytes) {
        return WriteEarly(run, bytes);
      }) {}

DestinationPages::~DestinationPages() { StopThreads(); }

Landing::Parts DestinationPages::PartsFor(ThreadMetrics& metrics) {
  LowestDelay* const trips = bulk_window_ ? &bulk_window_->urgent_trips() : nullptr;
  return {*geometry_,     ledger_,         placer_, waiters_, clock_,
          metrics.faults, metrics.landing, trips,   &blocks_};
}

PusherLimits DestinationPages::ShareOf(const PageLimits& limits) {
  PusherLimits share;
  share.window = &bulk_window_.emplace(limits.streams, limits.window.value_or(ByteCount(0)),
                                       limits.compression);
  share.pause = &push_pause_;
  share.overtakable = !limits.may_read;  // a READ lands by itself
  share.bytes_per_second = limits.bulk_bytes_per_second / limits.streams;
  return share;
}

Status DestinationPages::StartThreads(const PageLimits& limits) {
  for (size_t thread = 0; thread < limits.fault_shards + limits.streams; ++thread) {
    metrics_.push_back(std::make_unique<ThreadMetrics>());
  }
  const PusherLimits share = ShareOf(limits);  // first: fault threads report to the window it makes
  FAULTLINE_TRY(StartFaultThreads(limits));
  return StartPushThreads(limits, share);
}

Status DestinationPages::StartFaultThreads(const PageLimits& limits) {
  const TargetProcess& vmm = attachment_.process();
  waiters_.OnUnasked([this] { RingFaultThreads(); });
  const bool free_choice = limits.io == IoPreference::kBest;
  const IoPreference io = limits.may_read && free_choice ? kBestBesideReads : limits.io;
  for (size_t shard = 0; shard < limits.fault_shards; ++shard) {
    followers_.push_back(std::make_unique<CoreFollower>(vmm.pid(), &fault_cores_, shard));
    sources_.push_back(std::make_unique<UffdFaultSource>(attachment_.uffd(shard), map_, vmm.pidfd(),
                                                         followers_.back().get()));
    FAULTLINE_ASSIGN(auto reactor, MakeReactor(io));
    // In place: a write would wait for the pusher's, which holds the inode's lock.
    auto area = std::make_unique<AliasLanding>(ram_.window());
    fault_threads_.push_back(std::make_unique<LaneThread<FaultLoop>>(
        fmt::format("fl-fault-{}", shard),
        MakeHost(std::move(reactor), std::move(area), nullptr, true, limits.may_read),
        [&](Reactor& on) {
          return std::make_unique<FaultLoop>(PartsFor(*metrics_[shard]), *sources_[shard], on);
        }));
  }
  can_ring_.store(true, std::memory_order_release);
  return {};
}

/// Before there are all of them there is no lane to ask on.
void DestinationPages::RingFaultThreads() {
  if (!can_ring_.load(std::memory_order_acquire)) return;
  for (const auto& thread : fault_threads_) thread->Ring();
}

Status DestinationPages::StartPushThreads(const PageLimits& limits, const PusherLimits& share) {
  for (uint32_t stream = 0; stream < limits.streams; ++stream) {
    FAULTLINE_ASSIGN(auto reactor, MakeReactor(limits.io));
    FAULTLINE_ASSIGN(std::unique_ptr<LandingArea> area, StagedLanding::Create(ram_));
    if (share.overtakable) {
      area = std::make_unique<OvertakableLanding>(std::move(area), ledger_);
    }
    std::unique_ptr<Unpacker> unpacker;
    if (CompressionPolicy& policy = bulk_window_->compression(); policy.may_ask()) {
      unpacker = std::make_unique<Unpacker>(policy);
    }
    ThreadMetrics& metrics = *metrics_[limits.fault_shards + stream];
    push_threads_.push_back(std::make_unique<LaneThread<Pusher>>(
        fmt::format("fl-push-{}", stream),
        MakeHost(std::move(reactor), std::move(area), std::move(unpacker), false, limits.may_read),
        [&](Reactor& on) {
          return std::make_unique<Pusher>(PartsFor(metrics), leading_, on, share);
        },
        KeepOff(fault_cores_)));
  }
  return {};
}

std::unique_ptr<LaneHost> DestinationPages::MakeHost(std::unique_ptr<TcpReactor> reactor,
                                                     std::unique_ptr<LandingArea> area,
                                                     std::unique_ptr<Unpacker> unpacker,
                                                     bool urgent, bool may_read) {
  if (!may_read)
    return std::make_unique<TcpLaneHost>(std::move(reactor), std::move(area), std::move(unpacker));
  auto host = std::make_unique<RoutedLaneHost>(
      std::move(reactor), std::move(area), std::move(unpacker), urgent ? kUrgentSpin : Nanos(0));
  read_hosts_.push_back(host.get());
  return host;
}

Status DestinationPages::ReadFrom(ReadLanes::Plan plan) {
  FAULTLINE_ASSIGN(auto reads, ReadLanes::Create(std::move(plan), {ram_, push_pause_, read_hosts_,
                                                                   fault_threads_.size()}));
  reads->RegisterAhead([this](PageRun run) { return ledger_.HasAbsent(run); });
  const std::lock_guard lock(mutex_);
  reads_ = std::move(reads);
  return {};
}

void DestinationPages::GuestRuns() {
  // Until now the VMM's own threads have faulted, while they loaded devices.
  for (const auto& follower : followers_) follower->BeginAnew();
  push_pause_.Until(clock_.Now() + kFirstInstants);
  OpenBulk();
  if (reads_) reads_->HoldRegistering(false);
}

void DestinationPages::MarkCurrent(std::span<const PageRun> runs) {
  const std::lock_guard lock(mutex_);
  if (!reads_) return;
  for (const PageRun& run : runs) reads_->MarkCurrent(run);
}

void DestinationPages::GiveLane(LaneKind kind, uint32_t stream, tcp::UniqueFd socket) {
  const std::lock_guard lock(mutex_);
  if (!OpenFlag(kind)) {
    std::erase_if(kept_, [&](const KeptLane& kept) {
      return kept.kind == kind && kept.stream == stream;  // an older generation of the same lane
    });
    kept_.push_back({kind, stream, std::move(socket)});
  } else if (kind == LaneKind::kUrgent) {
    SendFirst(socket.get());
    fault_threads_[stream]->GiveLane(std::move(socket));
  } else {
    push_threads_[stream]->GiveLane(std::move(socket));
  }
}

void DestinationPages::Open() {
  {
    const std::lock_guard lock(mutex_);
    if (reads_) reads_->HoldRegistering(true);
  }
  OpenKept(LaneKind::kUrgent);
}

void DestinationPages::OpenBulk() { OpenKept(LaneKind::kBulk); }

void DestinationPages::OpenKept(LaneKind kind) {
  std::vector<KeptLane> kept;
  {
    const std::lock_guard lock(mutex_);
    OpenFlag(kind) = true;
    const auto others = std::partition(kept_.begin(), kept_.end(),
                                       [kind](const KeptLane& lane) { return lane.kind == kind; });
    std::move(kept_.begin(), others, std::back_inserter(kept));
    kept_.erase(kept_.begin(), others);
  }
  for (KeptLane& lane : kept) GiveLane(lane.kind, lane.stream, std::move(lane.socket));
}

bool DestinationPages::is_open() {
  const std::lock_guard lock(mutex_);
  return open_;
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

void DestinationPages::LandEarly(PageRun run, std::span<const std::byte> bytes) {
  const std::lock_guard lock(early_mutex_);
  if (early_over_) return;
  early_bytes_.fetch_add(bytes.size(), std::memory_order_relaxed);
  early_.Land(run, bytes);
}

/// A write would fill a tmpfs of huge pages with small ones.
bool DestinationPages::WriteEarly(PageRun run, std::span<const std::byte> bytes) {
  if (!ram_.AllocatesAhead(run)) return ram_.Write(run, bytes);
  if (!ram_.PopulateWrite(run).has_value()) return false;
  std::copy(bytes.begin(), bytes.end(), ram_.window().BytesOf(run).begin());
  return true;
}

bool DestinationPages::RetryMaps() {
  sweep_.Retry();
  early_.Retry();
  return sweep_.has_retries() || early_.has_retries();
}

bool DestinationPages::guest_gone() const {
  return std::any_of(fault_threads_.begin(), fault_threads_.end(),
                     [](const auto& thread) { return thread->guest_gone(); }) ||
         !attachment_.process().IsAlive();
}

wire::ProgressBody DestinationPages::progress() const {
  FaultMetrics faults;
  for (size_t shard = 0; shard < shards_.shard_count(); ++shard) {
    faults.MergeFrom(metrics_[shard]->faults);
  }
  uint64_t placed = 0;
  for (const auto& metrics : metrics_) placed += metrics->landing.data_bytes.value();
  placed += early_metrics_.landing.data_bytes.value();
  const auto nanos = [](Nanos value) { return static_cast<uint64_t>(value.count()); };
  return {.missing_pages = ledger_.missing().value(),
          .total_pages = ledger_.page_count().value(),
          .placed_bytes = placed,
          .faults = faults.faults.count.value(),
          .fault_p50_ns = nanos(faults.total.Quantile(0.50)),
          .fault_p99_ns = nanos(faults.total.Quantile(0.99))};
}

Status DestinationPages::Detach() {
  if (reads_) reads_->StopThreads();  // from here on the source may end the lanes
  for (const auto& thread : fault_threads_) thread->ExpectEnd();
  for (const auto& thread : push_threads_) thread->ExpectEnd();
  return attachment_.Detach(map_, shards_);
}

Status DestinationPages::EmptyRam() {
  const std::lock_guard lock(early_mutex_);
  early_over_ = true;
  FAULTLINE_ASSIGN(const std::vector<PageRun> ours, ram_.DataRuns());
  for (const PageRun& run : ours) ram_.FileOf(run).Empty(ram_.ExtentOf(run));
  return {};
}

void DestinationPages::StopThreads() {
  memory_ahead_.Stop();
  if (reads_) reads_->StopThreads();
  for (const auto& thread : push_threads_) thread->Stop();
  for (const auto& thread : fault_threads_) thread->Stop();
  if (reads_) reads_->Release();
}

SummaryJson DestinationPages::Summary(DestinationNumbers numbers) const {
  for (const auto& thread : fault_threads_) thread->AwaitStep();
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
  for (size_t i = shards_.shard_count(); i < metrics_.size(); ++i) {
    numbers.pushed_pages += metrics_[i]->landing.data_pages.value();
  }
  numbers.guest_bytes = geometry_->byte_count();
  numbers.window_bytes = bulk_window_->window();
  numbers.bulk_bytes_per_second = bulk_window_->bandwidth();
  numbers.packed_pages = bulk_window_->compression().packed_pages();
  numbers.packed_sent = bulk_window_->compression().packed_sent();
  numbers.codec = bulk_window_->compression().codec();
  for (const auto& thread : fault_threads_) {
    numbers.wire_bytes += thread->wire_bytes();
    numbers.retries += thread->lanes_lost();
  }
  all.MergeFrom(sweep_metrics_.faults);
  all.MergeFrom(early_metrics_.faults);
  numbers.early_pages = early_metrics_.landing.data_pages.value();
  numbers.data_bytes += ByteCount(early_metrics_.landing.data_bytes.value());
  numbers.wire_bytes += ByteCount(early_bytes_.load(std::memory_order_relaxed));
  numbers.hole_pages = sweep_metrics_.landing.zero_pages.value();
  numbers.reading = Reading();
  return DestinationPart(numbers, all);
}

ReadNumbers DestinationPages::Reading() const {
  if (!reads_) return {};
  return {.device = reads_->device(),
          .read_bytes = reads_->read_bytes(),
          .pinned = reads_->pinned(),
          .registering = reads_->registering(),
          .lost = reads_->lost()};
}

}  // namespace faultline
