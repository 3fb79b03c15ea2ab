#include "perf/bulk_guest.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <thread>

#include "engine/tcp/deadline.h"

namespace faultline::bulk {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr Nanos kLook = std::chrono::microseconds(200);

tl::unexpected<Error> Failed(const char* what) {
  return Fail(ErrorKind::kSystem, std::string(what) + ": " + std::strerror(errno));
}

void* MapShared(int fd, size_t bytes) {
  const int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
  return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
}

}  // namespace

Result<std::unique_ptr<BulkGuest>> BulkGuest::Create(ByteCount bytes, Load load) {
  UniqueFd file(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(bytes.value())) != 0) {
    return Failed("making a file in /dev/shm");
  }
  void* const memory = MapShared(file.get(), bytes.value());
  void* const shared = MapShared(-1, sizeof(Shared));
  if (memory == MAP_FAILED || shared == MAP_FAILED) return Failed("mapping the guest's memory");
  std::unique_ptr<BulkGuest> guest(new BulkGuest(std::move(file), static_cast<std::byte*>(memory),
                                                 bytes, load, new (shared) Shared));
  guest->pid_ = ::fork();
  if (guest->pid_ < 0) return Failed("starting the guest's process");
  if (guest->pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    guest->Run();
    ::_exit(0);
  }
  return guest;
}

BulkGuest::BulkGuest(UniqueFd file, std::byte* memory, ByteCount bytes, Load load, Shared* shared)
    : file_(std::move(file)), memory_(memory), bytes_(bytes), load_(load), shared_(shared) {}

BulkGuest::~BulkGuest() {
  Stop();
  ::munmap(memory_, bytes_.value());
  ::munmap(shared_, sizeof(Shared));
}

void BulkGuest::Stop() {
  if (pid_ <= 0) return;
  shared_->stop.store(true);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

VmDescription BulkGuest::description() const {
  const RegionShape shape{"ram0", bytes_, PageSize(kPageBytes)};
  return {pid_, "native", {{shape, base(), ByteCount(0), true}}};
}

void BulkGuest::Run() {
  while (!shared_->go.load() && !shared_->stop.load()) std::this_thread::sleep_for(kLook);
  const uint64_t pages = bytes_.value() / kPageBytes;
  uint64_t page = 0;
  for (uint64_t i = 0; load_.touches && i < pages && !shared_->stop.load(); ++i) {
    page = (page * 1664525 + 1013904223) % pages;  // every page once: Knuth, TAOCP 3.2.1.2
    const Nanos start = tcp::MonotonicNow();
    static_cast<void>(*static_cast<const volatile std::byte*>(memory_ + page * kPageBytes));
    const Nanos took = tcp::MonotonicNow() - start;
    if (took > kWait) shared_->waits.Record(took);
    std::this_thread::sleep_for(load_.pause);
  }
  while (!shared_->stop.load()) std::this_thread::sleep_for(kLook);
}

}  // namespace faultline::bulk
