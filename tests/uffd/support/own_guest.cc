#include "tests/uffd/support/own_guest.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "tests/uffd/support/require.h"

namespace faultline::testing {

namespace {

using std::chrono_literals::operator""s;

int HugePagesOf(const std::vector<RegionPlan>& plans) {
  uint64_t pages = 0;
  for (const RegionPlan& plan : plans) {
    if (plan.kind == BackingKind::kHugetlbfs) pages += plan.pages + plan.file_offset_pages;
  }
  return static_cast<int>(pages);
}

UserfaultFd RegisterAll(const OwnMemory& memory) {
  UserfaultFd uffd = Require(UserfaultFd::CreateForThisProcess());
  for (const VmRegion& region : memory.vm().regions) {
    Require(uffd.Register(region.base, region.shape.length, UffdMode::kMissingAndMinor));
  }
  return uffd;
}

}  // namespace

GuestMapping::GuestMapping(int fd, ByteCount length, ByteCount offset, int flags)
    : length_(length.value()) {
  void* base = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, flags, fd,
                      static_cast<off_t>(offset.value()));
  if (base == MAP_FAILED) Require(Status(Fail(ErrorKind::kSystem, "mmap of guest RAM")));
  bytes_ = static_cast<std::byte*>(base);
}

GuestMapping::GuestMapping(GuestMapping&& other) noexcept
    : bytes_(std::exchange(other.bytes_, nullptr)), length_(other.length_) {}

GuestMapping::~GuestMapping() {
  if (bytes_ != nullptr) ::munmap(bytes_, length_);
}

OwnMemory::OwnMemory(const std::vector<RegionPlan>& plans) : pool_(HugePagesOf(plans)) {
  std::vector<RegionShape> shapes;
  std::vector<VmmAddr> bases;
  vm_.pid = ::getpid();
  for (const RegionPlan& plan : plans) {
    const PageSize page_size = PageSizeOf(plan.kind);
    const ByteCount length = PageCount(plan.pages) * page_size;
    const ByteCount offset = PageCount(plan.file_offset_pages) * page_size;
    files_.push_back(MakeBackingFile(plan.kind, offset + length));
    mappings_.emplace_back(files_.back().get(), length, offset, MAP_SHARED);
    shapes.push_back({"ram" + std::to_string(shapes.size()), length, page_size});
    bases.emplace_back(reinterpret_cast<uint64_t>(mappings_.back().bytes()));
    vm_.regions.push_back({shapes.back(), bases.back(), offset, true});
  }
  geometry_ = std::make_unique<Geometry>(Require(Geometry::Create(shapes)));
  map_ = std::make_unique<VmmMap>(*geometry_, bases);
}

std::byte* OwnMemory::At(PageIndex page) const {
  return reinterpret_cast<std::byte*>(map_->AddrOf(page).value());
}

OwnGuest::OwnGuest(const std::vector<RegionPlan>& plans)
    : OwnMemory(plans),
      uffd(RegisterAll(*this)),
      ram(Require(GuestRam::Open(geometry(), vm(), RamAccess::kReadWrite))),
      source(uffd, map(), -1),
      placer(uffd, map(), ram) {}

void OwnGuest::Land(PageIndex page, int value) const {
  const std::span<std::byte> bytes = ram.window().BytesOf({page, PageCount(1)});
  std::memset(bytes.data(), value, bytes.size());
}

std::future<int> OwnGuest::Load(PageIndex page) const {
  const volatile std::byte* address = At(page);
  return std::async(std::launch::async, [address] { return static_cast<int>(*address); });
}

FaultBatch OwnGuest::NextBatch() {
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (std::chrono::steady_clock::now() < deadline) {
    pollfd readable{.fd = source.WaitFd(), .events = POLLIN, .revents = 0};
    ::poll(&readable, 1, 100);
    const FaultBatch batch = source.Read();
    if (!batch.faults.empty() || !batch.removed.empty()) return batch;
  }
  ADD_FAILURE() << "no event came";
  return {};
}

void OwnGuest::AwaitFaultOn(PageIndex page) {
  const FaultBatch batch = NextBatch();
  ASSERT_EQ(batch.faults.size(), 1U);
  EXPECT_EQ(batch.faults[0].page, page);
}

int ValueOf(std::future<int>& load) { return load.get(); }

}  // namespace faultline::testing
