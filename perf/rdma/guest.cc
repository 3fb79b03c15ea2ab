#include "perf/rdma/guest.h"

#include <sys/mman.h>
#include <unistd.h>

#include "engine/core/check.h"
#include "perf/rdma/require.h"
#include "rdma/memlock.h"

namespace faultline::bench {
namespace {

constexpr ByteCount kPoolBytes{256 * 1024};

}  // namespace

Guest::Mapped Guest::Map(ByteCount bytes) {
  const auto length = bytes.value();
  UniqueFd file(::memfd_create("guest", MFD_CLOEXEC));
  FAULTLINE_CHECK(file.valid() && ::ftruncate(file.get(), static_cast<off_t>(length)) == 0);
  void* const base = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  FAULTLINE_CHECK(base != MAP_FAILED);
  return {std::move(file), base};
}

VmDescription Guest::Describe() const {
  return {::getpid(), "this process", {{geometry_.shape(0), map_.base(0), ByteCount(0), true}}};
}

Guest::Guest(PageCount pages)
    : geometry_(Require(Geometry::Create({{"ram0", pages * PageSize(4096), PageSize(4096)}}))),
      mapped_(Map(geometry_.byte_count())),
      map_(geometry_, {VmmAddr(reinterpret_cast<uint64_t>(mapped_.base))}),
      ram_(Require(GuestRam::Open(geometry_, Describe(), RamAccess::kReadWrite))),
      uffd_(Require(UserfaultFd::CreateForThisProcess())),
      source_(uffd_, map_, -1),
      placer_(uffd_, map_, ram_),
      cells_(pages.value()),
      ledger_(cells_) {
  Require(uffd_.Register(map_.base(0), geometry_.byte_count(), UffdMode::kMissingAndMinor));
}

Guest::~Guest() {
  Require(uffd_.Unregister(map_.base(0), geometry_.byte_count()));
  ::munmap(mapped_.base, geometry_.byte_count().value());
}

uint64_t Guest::Load(PageIndex page) const {
  return *reinterpret_cast<const volatile uint64_t*>(map_.AddrOf(page).value());
}

ReadWays::ReadWays(Guest& guest, const SourceProcess& source)
    : guest_(guest),
      plan_(source.dial_plan()),
      reader_(Require(rdma::OpenReader(plan_))),
      remote_(guest.geometry(), {source.offer().pages}),
      local_(remote_, guest.ram().window(), *reader_.domain),
      pool_(Require(rdma::LandingPool::Create(*reader_.domain, kPoolBytes))) {
  rdma::RaiseMemlock();
  remote_.MarkCurrent(source.offer().pages.run);
  const Nanos began = rdma::MonotonicNow();
  Require(local_.RegisterOne(0));
  registration_ = rdma::MonotonicNow() - began;
}

rdma::Connection ReadWays::Connect(LaneKind lane, uint64_t generation) {
  return Require(rdma::Dial(reader_, plan_,
                            {.lane = lane,
                             .stream = 0,
                             .generation = generation,
                             .migration = SourceProcess::migration()}));
}

rdma::ReadChannel::Memory ReadWays::Memory() {
  return {remote_,    local_, guest_.ram().window(),
          *pool_,     sink_,  reader_.limits.message_bytes_max,
          read_bytes_};
}

}  // namespace faultline::bench
