#include "tests/tcp/guest_ram.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "engine/core/check.h"

namespace faultline::test {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

Geometry MakeGeometry(std::vector<RegionShape> shapes) {
  Result<Geometry> geometry = Geometry::Create(std::move(shapes));
  FAULTLINE_CHECK(geometry.has_value());
  return *std::move(geometry);
}

void FillRandomly(std::span<std::byte> bytes, Random& random) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

}  // namespace

uint64_t Seed() {
  const char* const given = std::getenv("FAULTLINE_SEED");
  const uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  std::printf("FAULTLINE_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

const Geometry& MixedGeometry() {
  static const Geometry geometry = MakeGeometry({{"ram0", ByteCount(8 * kMiB), PageSize(4096)},
                                                 {"huge0", ByteCount(8 * kMiB), PageSize(2 * kMiB)},
                                                 {"ram1", ByteCount(101 * 4096), PageSize(4096)}});
  return geometry;
}

const Geometry& SmallGeometry() {
  static const Geometry geometry = MakeGeometry({{"ram0", ByteCount(1 * kMiB), PageSize(4096)}});
  return geometry;
}

GuestRam::GuestRam(const Geometry& geometry) : geometry_(geometry) {
  std::vector<HostAddr> bases;
  for (size_t region = 0; region < geometry.region_count(); ++region) {
    const size_t length = geometry.shape(region).length.value();
    void* const base =
        ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAULTLINE_CHECK(base != MAP_FAILED);
    mappings_.emplace_back(static_cast<std::byte*>(base), length);
    bases.emplace_back(reinterpret_cast<uint64_t>(base));
  }
  window_ = std::make_unique<RamWindow>(geometry, std::move(bases));
  landing_ = std::make_unique<AliasLanding>(*window_);
}

GuestRam::~GuestRam() {
  for (const std::span<std::byte> mapping : mappings_) ::munmap(mapping.data(), mapping.size());
}

void GuestRam::FillWith(std::byte value) {
  for (const std::span<std::byte> mapping : mappings_) std::ranges::fill(mapping, value);
}

uint64_t GuestRam::Hash() const {
  uint64_t hash = 14695981039346656037ULL;
  for (const std::span<std::byte> mapping : mappings_) {
    for (size_t at = 0; at < mapping.size(); at += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, mapping.data() + at, sizeof word);
      hash = (hash ^ word) * 1099511628211ULL;
    }
  }
  return hash;
}

bool IsFilledWith(std::span<const std::byte> bytes, std::byte value) {
  return bytes.front() == value &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

SourceGuest::SourceGuest(const Geometry& geometry, uint64_t seed)
    : ram_(geometry), presence_(geometry.page_count()) {
  Random random(seed);
  for (uint64_t page = 0; page < geometry.page_count().value(); ++page) {
    const uint64_t kind = random() % 4;  // 0: hole, 1: zeroes, 2: data, 3: data not known of
    if (kind >= 2) FillRandomly(ram_.Page(PageIndex(page)), random);
    if (kind == 1 || kind == 2) presence_.MarkPresent({PageIndex(page), PageCount(1)});
  }
}

std::unique_ptr<PageServer> SourceGuest::MakeServer() {
  return std::make_unique<PageServer>(ram_.window(), presence_, *this);
}

bool SourceGuest::Read(PageRun run, std::span<std::byte> out) {
  std::ranges::copy(ram_.window().BytesOf(run), out.begin());
  return true;
}

std::vector<PageRun> RandomCover(const Geometry& geometry, Random& random) {
  std::vector<PageRun> runs;
  const PageIndex end(geometry.page_count().value());
  for (PageIndex at(0); at < end;) {
    const PageIndex limit = std::min(end, at + PageCount(1 + random() % kRunPagesMax));
    runs.push_back(geometry.RequestableFrom(at, limit));
    at = runs.back().end();
  }
  std::ranges::shuffle(runs, random);
  return runs;
}

}  // namespace faultline::test
