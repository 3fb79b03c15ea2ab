// What it costs to map pages of shared memory: bytes landed in the alias and CONTINUE, against
// UFFDIO_COPY of the same bytes, by the length of the run. Items are 4 KiB pages.
//
// The guest is this process: one mapping of a memfd plays QEMU's, the engine's classes do the
// rest. Allocating a page of tmpfs is the larger part of landing, so it is measured with and
// without memory put there ahead of need. Needs root, like the engine.
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "engine/core/check.h"
#include "uffd/guest_ram.h"
#include "uffd/uffd_placer.h"
#include "uffd/userfault_fd.h"

namespace faultline {
namespace {

constexpr ByteCount kBytes{64 << 20};
constexpr PageSize kPageSize{4096};
constexpr PageCount kPages{kBytes.value() / kPageSize.bytes()};

/// What the mapping of the "VMM" and the file look like when a sweep over the pages begins.
enum class Memory { kNone, kAllocated };

/// A registered mapping of a memfd, the engine's alias of it, and the placer.
class Guest {
 public:
  static std::unique_ptr<Guest> Create() {
    const int file = memfd_create("placer_bench", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(kBytes.value())) != 0) return nullptr;
    void* base = mmap(nullptr, kBytes.value(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    Result<UserfaultFd> uffd = UserfaultFd::CreateForThisProcess();
    if (base == MAP_FAILED || !uffd.has_value()) return nullptr;
    std::unique_ptr<Guest> guest(new Guest(base, *std::move(uffd)));
    if (!guest->OpenRam()) return nullptr;
    return guest;
  }
  ~Guest() {
    Unregister();
    munmap(base_, kBytes.value());
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  /// Nothing mapped and no memory in the file, or all of it. While nothing is registered: the
  /// REMOVE and UNMAP events of a registered range would wait for a reader.
  void Reset(Memory memory) {
    Unregister();
    FAULTLINE_CHECK(madvise(base_, kBytes.value(), MADV_REMOVE) == 0);
    if (memory == Memory::kAllocated)
      FAULTLINE_CHECK(ram_->PopulateWrite({PageIndex(0), kPages}).has_value());
    FAULTLINE_CHECK(madvise(base_, kBytes.value(), MADV_DONTNEED) == 0);
    FAULTLINE_CHECK(uffd_.Register(start(), kBytes, UffdMode::kMissingAndMinor).has_value());
    registered_ = true;
  }

  UffdPlacer& placer() { return *placer_; }
  const UserfaultFd& uffd() const { return uffd_; }
  std::span<std::byte> alias(PageRun run) const { return ram_->window().BytesOf(run); }
  VmmAddr AddrOf(PageIndex page) const { return vmm_->AddrOf(page); }

 private:
  Guest(void* base, UserfaultFd uffd) : base_(base), uffd_(std::move(uffd)) {}
  void Unregister() {
    if (registered_) FAULTLINE_CHECK(uffd_.Unregister(start(), kBytes).has_value());
    registered_ = false;
  }
  VmmAddr start() const { return VmmAddr(reinterpret_cast<uint64_t>(base_)); }

  bool OpenRam() {
    const RegionShape shape{"ram0", kBytes, kPageSize};
    Result<Geometry> geometry = Geometry::Create({shape});
    if (!geometry.has_value()) return false;
    geometry_ = std::make_unique<Geometry>(*std::move(geometry));
    VmDescription vm;
    vm.pid = getpid();
    vm.regions.push_back({shape, start(), ByteCount(0), true});
    Result<GuestRam> ram = GuestRam::Open(*geometry_, vm, RamAccess::kReadWrite);
    if (!ram.has_value()) return false;
    ram_.emplace(*std::move(ram));
    vmm_.emplace(*geometry_, std::vector<VmmAddr>{start()});
    placer_.emplace(uffd_, *vmm_, *ram_);
    return true;
  }

  void* base_;
  UserfaultFd uffd_;
  bool registered_ = false;
  std::unique_ptr<Geometry> geometry_;
  std::optional<GuestRam> ram_;
  std::optional<VmmMap> vmm_;
  std::optional<UffdPlacer> placer_;
};

/// Runs `place(guest, run)` over all pages, run by run; each sweep starts from fresh memory,
/// outside the clock.
template <class Place>
void Sweep(benchmark::State& state, Memory memory, Place place) {
  const std::unique_ptr<Guest> guest = Guest::Create();
  if (guest == nullptr) return state.SkipWithError("no userfaultfd for shared memory: be root");
  const PageCount pages(static_cast<uint64_t>(state.range(0)));
  PageIndex next(kPages.value());
  for (auto _ : state) {
    if ((next + pages).value() > kPages.value()) {
      state.PauseTiming();
      guest->Reset(memory);
      next = PageIndex(0);
      state.ResumeTiming();
    }
    place(*guest, PageRun{next, pages});
    next += pages;
  }
  state.SetItemsProcessed(state.range(0) * state.iterations());
}

const std::vector<std::byte>& Received() {
  static const std::vector<std::byte> bytes(kRunBytesMax.value(), std::byte{0x5a});
  return bytes;
}

void Land(Guest& guest, PageRun run) {
  const std::span<std::byte> to = guest.alias(run);
  std::memcpy(to.data(), Received().data(), to.size());
}

void Continue(benchmark::State& state) {
  Sweep(state, Memory::kAllocated, [](Guest& guest, PageRun run) {
    FAULTLINE_CHECK(guest.placer().MapHeld(run) == PlaceResult::kPlaced);
  });
}
BENCHMARK(Continue)->Arg(1)->Arg(4)->Arg(16)->Arg(64);

void LandAndContinue(benchmark::State& state) {
  Sweep(state, Memory::kNone, [](Guest& guest, PageRun run) {
    Land(guest, run);
    FAULTLINE_CHECK(guest.placer().MapHeld(run) == PlaceResult::kPlaced);
  });
}
BENCHMARK(LandAndContinue)->Arg(1)->Arg(4)->Arg(16)->Arg(64);

void LandAllocatedAndContinue(benchmark::State& state) {
  Sweep(state, Memory::kAllocated, [](Guest& guest, PageRun run) {
    Land(guest, run);
    FAULTLINE_CHECK(guest.placer().MapHeld(run) == PlaceResult::kPlaced);
  });
}
BENCHMARK(LandAllocatedAndContinue)->Arg(1)->Arg(4)->Arg(16)->Arg(64);

void Copy(benchmark::State& state) {
  Sweep(state, Memory::kNone, [](Guest& guest, PageRun run) {
    const HostAddr from(reinterpret_cast<uint64_t>(Received().data()));
    const UffdProgress done =
        guest.uffd().Copy(guest.AddrOf(run.first), from, run.count * kPageSize);
    FAULTLINE_CHECK(done.outcome == UffdOutcome::kDone);
  });
}
BENCHMARK(Copy)->Arg(1)->Arg(4)->Arg(16)->Arg(64);

void ZeroPage(benchmark::State& state) {
  Sweep(state, Memory::kNone, [](Guest& guest, PageRun run) {
    FAULTLINE_CHECK(guest.placer().MapZero(run) == PlaceResult::kPlaced);
  });
}
BENCHMARK(ZeroPage)->Arg(1)->Arg(64);

}  // namespace
}  // namespace faultline
