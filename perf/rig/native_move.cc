#include "perf/rig/native_move.h"

#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "engine/app/lane_keeper.h"
#include "perf/rig/touch_plan.h"

namespace faultline::rig {
namespace {

constexpr wire::MigrationId kMigration{1};

template <class T>
T Require(Result<T> result) {
  if (!result.has_value()) spdlog::critical("{}", result.error().message);
  FAULTLINE_CHECK(result.has_value());
  return std::move(result).value();
}

/// A directory for the ledger, removed at the end.
struct StateDirectory {
  std::string path = (std::filesystem::temp_directory_path() / "faultline-rig-XXXXXX").string();
  StateDirectory() { FAULTLINE_CHECK(::mkdtemp(path.data()) != nullptr); }
  ~StateDirectory() { std::filesystem::remove_all(path); }
};

/// The source's process: its guest's memory is mapped here, as if it were the VMM too.
void ServePages(const SourceRam& ram, const MovePlan& plan, const Endpoint& to) {
  spdlog::set_level(spdlog::level::off);
  std::vector<void*> bases;
  for (uint64_t at = 0; at < plan.guest.bytes; at += kRegionBytesMax) {
    bases.push_back(::mmap(nullptr, ram.bytes(), PROT_READ, MAP_SHARED, ram.file(), 0));
  }
  const VmDescription vm = DescribeGuest(::getpid(), plan.guest.bytes, bases);
  const Geometry geometry = Require(GeometryOf(vm));
  GuestRam window = Require(GuestRam::Open(geometry, vm, RamAccess::kRead));
  const PageTableKeeper page_tables(window);
  PresenceMap presence(geometry.page_count());
  presence.MarkPresent({PageIndex(0), geometry.page_count()});
  const auto make_server = [&] {
    return std::make_unique<PageServer>(window.window(), presence, window);
  };
  std::vector<std::unique_ptr<LaneKeeper>> lanes;
  LaneIntroduction lane{.lane = LaneKind::kUrgent, .migration = kMigration};
  for (lane.stream = 0; lane.stream < plan.shards; ++lane.stream) {
    lanes.push_back(Require(LaneKeeper::Create(to, lane, make_server)));
  }
  lane.lane = LaneKind::kBulk;
  for (lane.stream = 0; lane.stream < plan.bulk_streams; ++lane.stream) {
    lanes.push_back(Require(LaneKeeper::Create(to, lane, make_server)));
  }
  ::pause();
}

/// The destination's pages with all lanes connected.
class Destination {
 public:
  Destination(const NativeGuest& guest, const MovePlan& plan, Listener listener)
      : pages_(MakePages(guest.Description(), plan, state_.path)),
        expected_(plan.shards + plan.bulk_streams),
        acceptor_(std::move(listener),
                  {.judge = [](const LaneIntroduction&) { return wire::PreambleStatus::kAccepted; },
                   .take =
                       [this](const LaneIntroduction& lane, Connection connection) {
                         pages_->GiveLane(lane.lane, lane.stream, std::move(connection.socket));
                         given_.fetch_add(1);
                       }}) {
    while (given_.load() < expected_) ::usleep(1000);
    ::usleep(20'000);  // threads have opened what they were given
  }
  DestinationPages& pages() { return *pages_; }

 private:
  static std::unique_ptr<DestinationPages> MakePages(const VmDescription& vm, const MovePlan& plan,
                                                     const std::string& state_dir) {
    const PageLimits limits{.io = plan.io,
                            .window = plan.window,
                            .streams = std::max(plan.bulk_streams, 1U),
                            .fault_shards = plan.shards};
    const auto refuse = [](const TargetProcess&) -> Result<AttachedUserfault> {
      return Fail(ErrorKind::kRefused, "run this as root");
    };
    return Require(
        DestinationPages::Create(vm, refuse, Require(GeometryOf(vm)), state_dir, limits));
  }

  StateDirectory state_;
  std::unique_ptr<DestinationPages> pages_;
  const uint32_t expected_;
  std::atomic<uint32_t> given_{0};
  LaneAcceptor acceptor_;
};

}  // namespace

SourceRam::SourceRam(uint64_t guest_bytes)
    : bytes_(std::min(guest_bytes, kRegionBytesMax)), file_(MakeRamFile(bytes_, true)) {}

MoveResult MoveNativeGuest(const SourceRam& ram, const MovePlan& plan) {
  const MonotonicClock clock;
  MoveResult result;
  Listener listener = Require(Listener::Create({"127.0.0.1", 0}));
  NativeGuest guest(plan.guest);
  const Endpoint endpoint = listener.endpoint();
  Child source([&] { ServePages(ram, plan, endpoint); });
  {
    Destination destination(guest, plan, std::move(listener));
    const double cpu_before = OwnCpuSeconds();
    const Nanos start = clock.Now();
    destination.pages().Open();
    guest.Go();
    const bool pushes = plan.bulk_streams > 0;
    while (pushes ? destination.pages().missing() > PageCount(0) : !guest.finished()) {
      ::usleep(500);
    }
    result.total = clock.Now() - start;
    guest.AwaitFinished();
    result.destination = MemoryOf(0);
    result.source = MemoryOf(source.pid());
    result.destination.cpu_s = OwnCpuSeconds() - cpu_before;
    FAULTLINE_CHECK(destination.pages().Detach().has_value());
    result.summary = destination.pages().Summary({});
    destination.pages().StopThreads();
  }
  result.source.cpu_s = source.Kill();
  result.latencies = guest.Latencies();
  result.wrong = guest.wrong();
  return result;
}

}  // namespace faultline::rig
