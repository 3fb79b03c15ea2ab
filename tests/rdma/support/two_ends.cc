#include "tests/rdma/support/two_ends.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "tests/uffd/support/require.h"

namespace faultline::testing {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr Nanos kPatience = std::chrono::seconds(10);

Geometry MakeGeometry(uint64_t pages) {
  return Require(Geometry::Create({{"ram0", ByteCount(pages * kPageBytes), PageSize(kPageBytes)}}));
}

std::string DeviceName() {
  const char* const name = std::getenv("LAB_DEVICE");
  return name != nullptr ? name : "";
}

std::byte PatternOf(PageIndex page, size_t offset) {
  return static_cast<std::byte>((page.value() * 31 + offset / 64 + 1) % 251 + 1);
}

bool AllBytes(std::span<const std::byte> bytes, auto expected) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != expected(i)) return false;
  }
  return true;
}

}  // namespace

std::string WhyNoDevice() {
  const auto address = rdma::ChooseAddress(DeviceName(), "");
  return address.has_value() ? "" : address.error().message;
}

TestRam::TestRam(uint64_t pages)
    : geometry_(MakeGeometry(pages)),
      file_(MakeBackingFile(BackingKind::kTmpfs, geometry_.byte_count())),
      mapping_(file_.get(), geometry_.byte_count(), ByteCount(0), MAP_SHARED),
      window_(geometry_, {HostAddr(reinterpret_cast<uint64_t>(mapping_.bytes()))}) {}

void TestRam::FillWithPattern() const {
  for (PageIndex page; page < All().end(); ++page) {
    const std::span<std::byte> bytes = BytesOf({page, PageCount(1)});
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = PatternOf(page, i);
  }
}

bool TestRam::HoldsPattern(PageIndex page) const {
  return AllBytes(BytesOf({page, PageCount(1)}), [page](size_t i) { return PatternOf(page, i); });
}

bool TestRam::HoldsZero(PageIndex page) const {
  return AllBytes(BytesOf({page, PageCount(1)}), [](size_t) { return std::byte{0}; });
}

bool CopyingSink::Write(PageRun run, std::span<const std::byte> bytes) {
  if (full) return false;
  ++written;
  std::memcpy(ram_.BytesOf(run).data(), bytes.data(), bytes.size());
  return true;
}

SourceEnd::SourceEnd(uint64_t pages, uint64_t region_pages) : ram(pages) {
  ram.FillWithPattern();
  const auto address = Require(rdma::ChooseAddress(DeviceName(), ""));
  answerer =
      Require(rdma::Answerer::Create({.address = address, .port = 0, .migration = migration}));
  for (PageIndex page; page < ram.All().end();) {
    const PageRun run{page, std::min(PageCount(region_pages), ram.All().end() - page)};
    const std::span<std::byte> bytes = ram.BytesOf(run);
    memory.push_back(
        Require(rdma::Register(answerer->domain(), bytes, rdma::RegionUse::kReadByPeer)));
    regions.push_back({run, reinterpret_cast<uint64_t>(bytes.data()), memory.back()->rkey});
    page = run.end();
  }
}

rdma::DialPlan SourceEnd::Plan() const {
  return {.host = answerer->host(),
          .port = answerer->port(),
          .from_host = "",
          .type_of_service = 0,
          .timeout = kPatience};
}

wire::LaneIdentity SourceEnd::Lane(uint64_t generation) const {
  return {.lane = LaneKind::kUrgent, .stream = 0, .generation = generation, .migration = migration};
}

ReadingEnd::ReadingEnd(const SourceEnd& source, std::vector<wire::RdmaRegion> regions,
                       ByteCount pool_bytes)
    : ram(source.ram.All().count.value()),
      reader(Require(rdma::OpenReader(source.Plan()))),
      table(ram.geometry(), std::move(regions)),
      local(table, ram.window(), *reader.domain),
      pool(Require(rdma::LandingPool::Create(*reader.domain, pool_bytes))),
      sink(ram.window()),
      inner(Require(MakeReactor(kBestBesideReads))),
      reactor(*inner, std::chrono::microseconds(20)) {
  table.MarkCurrent(ram.All());
}

std::unique_ptr<rdma::ReadChannel> ReadingEnd::Open(const SourceEnd& source, uint64_t generation) {
  rdma::Connection connection = Require(rdma::Dial(reader, source.Plan(), source.Lane(generation)));
  const rdma::ReadChannel::Memory memory{
      table, local, ram.window(), *pool, sink, reader.limits.message_bytes_max, read_bytes};
  return std::make_unique<rdma::ReadChannel>(std::move(connection), memory, reactor);
}

std::vector<PageRun> ReadingEnd::Reap(rdma::ReadChannel& lane, uint64_t pages) {
  const Nanos deadline = rdma::MonotonicNow() + kPatience;
  std::vector<PageRun> arrived;
  std::vector<Arrival> batch(16);
  uint64_t count = 0;
  while (count < pages && lane.Health() == LaneHealth::kOpen && rdma::MonotonicNow() < deadline) {
    reactor.Wait(std::chrono::milliseconds(100));
    for (size_t got = lane.Reap(batch), i = 0; i < got; ++i) {
      arrived.push_back(batch[i].run);
      count += batch[i].run.count.value();
    }
  }
  return arrived;
}

bool ReadingEnd::AwaitBroken(rdma::ReadChannel& lane) {
  const Nanos deadline = rdma::MonotonicNow() + kPatience;
  while (lane.Health() == LaneHealth::kOpen && rdma::MonotonicNow() < deadline) {
    reactor.Wait(std::chrono::milliseconds(100));
  }
  return lane.Health() == LaneHealth::kBroken;
}

}  // namespace faultline::testing
