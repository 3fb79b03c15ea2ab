#include "engine/app/readable_ram.h"

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include "engine/app/parallel.h"
#include "engine/core/page_runs.h"
#include "engine/core/zero_check.h"
#include "rdma/memlock.h"
#include "rdma/region_plan.h"

namespace faultline {
namespace {

constexpr PageCount kOne{1};

}  // namespace

ReadableRam::ReadableRam(const GuestRam& ram, std::vector<RamFile> files,
                         std::unique_ptr<rdma::Answerer> answerer)
    : ram_(ram),
      files_(std::move(files)),
      answerer_(std::move(answerer)),
      zero_hint_(ram.geometry().page_count()) {}

Result<std::unique_ptr<ReadableRam>> ReadableRam::Create(const rdma::Answerer::Plan& plan,
                                                         const VmDescription& vm,
                                                         const GuestRam& ram) {
  rdma::RaiseMemlock();
  FAULTLINE_ASSIGN(auto answerer, rdma::Answerer::Create(plan));
  std::vector<RamFile> files;
  for (const VmRegion& region : vm.regions) {
    FAULTLINE_ASSIGN(RamFile file, RamFile::Open(vm.pid, region, RamAccess::kReadWrite));
    files.push_back(std::move(file));
  }
  return std::unique_ptr<ReadableRam>(new ReadableRam(ram, std::move(files), std::move(answerer)));
}

unsigned ReadableRam::ThreadCount() const {
  return std::clamp(std::thread::hardware_concurrency(), 1U, kThreadsMax);
}

Status ReadableRam::Register(std::span<const PageRun> data, const std::function<Status()>& look) {
  const rdma::DeviceLimits& device = answerer_->limits();
  ByteCount total;
  for (const PageRun& run : data) total += ram_.geometry().BytesOf(run);
  const size_t count_max = std::min<size_t>(wire::kRdmaRegionsMax, device.regions_max / 2);
  const ByteCount bytes_max =
      std::min(rdma::RegionBytesFor(total, kRegionBytes, count_max), device.region_bytes_max);

  const std::vector<PageRun> pieces = rdma::CutIntoPieces(ram_.geometry(), data, bytes_max);
  std::vector<std::vector<PageRun>> kept(pieces.size());
  const auto scan = [&](size_t index) -> Status {
    kept[index] = WithoutZeroes(pieces[index]);
    return {};
  };
  FAULTLINE_TRY(ForEachInParallel(pieces.size(), ThreadCount(), scan, look));

  std::vector<PageRun> runs;
  for (const auto& each : kept) runs.insert(runs.end(), each.begin(), each.end());
  const std::vector<PageRun> chosen = rdma::ChooseRegions(
      ram_.geometry(), std::move(runs), {kRunBytesMin, device.region_bytes_max, count_max});
  const auto pin = [&](size_t index) { return PinOne(chosen[index]); };
  FAULTLINE_TRY(ForEachInParallel(chosen.size(), ThreadCount(), pin, look));
  std::sort(regions_.begin(), regions_.end(),
            [](const auto& a, const auto& b) { return a.run.first < b.run.first; });
  return {};
}

/// The guest runs on: what is zero now is a hint for later and nothing more.
std::vector<PageRun> ReadableRam::WithoutZeroes(PageRun piece) {
  std::vector<PageRun> kept;
  for (PageIndex page = piece.first; page < piece.end();) {
    PageRun zeroes{page, PageCount(0)};
    while (zeroes.end() < piece.end() && IsAllZero(ram_.window().BytesOf({zeroes.end(), kOne}))) {
      zeroes.count += kOne;
    }
    const bool is_long = ram_.geometry().BytesOf(zeroes) >= kRunBytesMin;
    if (!zeroes.empty() && !is_long) {
      zero_hint_.MarkPresent(zeroes);
      AppendJoined(kept, zeroes, ram_.geometry());
    }
    page = zeroes.end();
    if (page == piece.end()) break;
    AppendJoined(kept, {page, kOne}, ram_.geometry());  // the page that ended the stretch
    page += kOne;
  }
  return kept;
}

Status ReadableRam::PinOne(PageRun run) {
  const RamFile& file = files_[ram_.geometry().RegionOf(run.first)];
  FAULTLINE_ASSIGN(ExtentMapping mapping, ExtentMapping::Of(file, ram_.ExtentOf(run)));
  FAULTLINE_ASSIGN(rdma::MemoryRegion region, rdma::Register(answerer_->domain(), mapping.bytes(),
                                                             rdma::RegionUse::kReadByPeer));
  const auto address = reinterpret_cast<uint64_t>(mapping.bytes().data());
  const uint32_t key = region->rkey;
  pinned_.fetch_add(mapping.bytes().size(), std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  regions_.push_back({run, address, key});
  memory_.push_back({run, std::move(mapping), std::move(region)});
  return {};
}

Status ReadableRam::VisitCurrent(const std::function<Status(const std::vector<PageRun>&)>& send) {
  std::sort(memory_.begin(), memory_.end(),
            [](const Pinned& a, const Pinned& b) { return a.run.first < b.run.first; });
  std::vector<PageRun> batch;
  for (const Pinned& pinned : memory_) {
    const std::vector<PageRun> current = CurrentOf(pinned);
    batch.insert(batch.end(), current.begin(), current.end());
    // Early and often: until a page is named it is served over TCP.
    if (batch.empty()) continue;
    FAULTLINE_TRY(send(batch));
    batch.clear();
  }
  return {};
}

/// Without the pages that are still zero: those cross the wire as a bit, over TCP.
std::vector<PageRun> ReadableRam::CurrentOf(const Pinned& pinned) const {
  const uint64_t page_bytes = ram_.geometry().PageSizeOf(pinned.run.first).bytes();
  std::vector<PageRun> current;
  const auto visit = [&](ByteCount offset, ByteCount length) {
    const uint64_t begin = (offset.value() + page_bytes - 1) / page_bytes;
    const uint64_t end = (offset + length).value() / page_bytes;
    for (uint64_t page = begin; page < end; ++page) {
      const PageIndex index = pinned.run.first + PageCount(page);
      const auto bytes = pinned.mapping.bytes().subspan(page * page_bytes, page_bytes);
      if (zero_hint_.IsPresent(index) && IsAllZero(bytes)) continue;
      AppendJoined(current, {index, kOne}, ram_.geometry());
    }
  };
  // What cannot be looked at is not vouched for.
  if (!pinned.mapping.VisitPresent(visit).has_value()) current.clear();
  return current;
}

void ReadableRam::Stop() {
  answerer_->Stop();
  memory_.clear();
}

}  // namespace faultline
