#include "perf/rig/native_guest.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "perf/rig/huge_tmpfs.h"
#include "perf/rig/touch_plan.h"

namespace faultline::rig {
namespace {

std::vector<uint64_t> RegionSizes(uint64_t bytes) {
  std::vector<uint64_t> sizes;
  for (; bytes > 0; bytes -= sizes.back()) sizes.push_back(std::min(bytes, kRegionBytesMax));
  return sizes;
}

void* MapFile(int file, uint64_t bytes) {
  void* const base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  FAULTLINE_CHECK(base != MAP_FAILED);
  return base;
}

uint64_t NowNs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(Nanos(now).count());
}

}  // namespace

UniqueFd MakeRamFile(uint64_t bytes, bool filled, bool huge) {
  UniqueFd file = huge ? MakeHugeTmpfsFile("huge=within_size")
                       : UniqueFd(::memfd_create("faultline-rig", MFD_CLOEXEC));
  FAULTLINE_CHECK(file.valid() && ::ftruncate(file.get(), static_cast<off_t>(bytes)) == 0);
  std::vector<uint64_t> page(kPageBytes / sizeof(uint64_t), 0x5A5A);
  for (uint64_t number = 0; filled && number < bytes / kPageBytes; ++number) {
    page[0] = WordOf(number);
    const auto at = static_cast<off_t>(number * kPageBytes);
    FAULTLINE_CHECK(::pwrite(file.get(), page.data(), kPageBytes, at) ==
                    static_cast<ssize_t>(kPageBytes));
  }
  return file;
}

VmDescription DescribeGuest(int pid, uint64_t bytes, const std::vector<void*>& bases) {
  VmDescription vm{.pid = pid, .version = "native", .regions = {}};
  for (const uint64_t size : RegionSizes(bytes)) {
    const std::string id = "ram" + std::to_string(vm.regions.size());
    const VmmAddr base(reinterpret_cast<uint64_t>(bases[vm.regions.size()]));
    vm.regions.push_back({{id, ByteCount(size), PageSize(kPageBytes)}, base, ByteCount(0), true});
  }
  return vm;
}

NativeGuest::NativeGuest(const GuestPlan& plan) : plan_(plan), latencies_(plan.touches) {
  for (const uint64_t size : RegionSizes(plan.bytes)) {
    files_.push_back(MakeRamFile(size, plan.filled, plan.huge));
    bases_.push_back(MapFile(files_.back().get(), size));
  }
  process_ = std::make_unique<Child>([this] { Run(); });
  // The engine's process must not have the guest's mapping: only the alias.
  for (size_t i = 0; i < bases_.size(); ++i) ::munmap(bases_[i], RegionSizes(plan.bytes)[i]);
}

VmDescription NativeGuest::Description() const { return DescribeGuest(pid(), plan_.bytes, bases_); }

void NativeGuest::Run() const {
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < plan_.threads; ++i) threads.emplace_back([this, i] { RunThread(i); });
  for (std::thread& thread : threads) thread.join();
  ::pause();  // its memory stays
}

void NativeGuest::RunThread(uint32_t thread) const {
  if (plan_.cpu) StayOnCpu(*plan_.cpu);
  while (!control_->go.load()) ::usleep(200);
  const Shuffle pages(plan_.bytes / kPageBytes, plan_.seed);
  const uint64_t region_pages = std::min(plan_.bytes, kRegionBytesMax) / kPageBytes;
  for (uint64_t i = thread; i < plan_.touches; i += plan_.threads) {
    const uint64_t page = pages[i];
    const uint64_t in_region = page % region_pages;
    const auto* const word = reinterpret_cast<const volatile uint64_t*>(
        static_cast<const char*>(bases_[page / region_pages]) + in_region * kPageBytes);
    const uint64_t begin = NowNs();
    const uint64_t found = *word;
    const uint64_t took = NowNs() - begin;
    latencies_.items()[i] = static_cast<uint32_t>(std::min<uint64_t>(took, UINT32_MAX));
    if (found != WordOf(in_region)) control_->wrong.fetch_add(1);
  }
  control_->finished.fetch_add(1);
}

void NativeGuest::AwaitFinished() const {
  while (!finished()) ::usleep(1000);
}

std::vector<uint32_t> NativeGuest::Latencies() const {
  return {latencies_.items().begin(), latencies_.items().end()};
}

}  // namespace faultline::rig
