#include "perf/rig/native_move.h"

#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <thread>

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

/// The source: its guest's memory is mapped here, as if this process were the VMM too.
class Source {
 public:
  Source(const SourceRam& ram, const MovePlan& plan, const Endpoint& to)
      : vm_(DescribeGuest(::getpid(), plan.guest.bytes, MapAll(ram, plan.guest.bytes))),
        geometry_(Require(GeometryOf(vm_))),
        window_(Require(GuestRam::Open(geometry_, vm_, RamAccess::kRead))),
        page_tables_(window_),
        presence_(geometry_.page_count()) {
    presence_.Finish(std::array{PageRun{PageIndex(0), geometry_.page_count()}});
    OpenLanes(LaneKind::kUrgent, plan.shards, to);
    OpenLanes(LaneKind::kBulk, plan.bulk_streams, to);
  }

 private:
  static std::vector<void*> MapAll(const SourceRam& ram, uint64_t guest_bytes) {
    std::vector<void*> bases;
    for (uint64_t at = 0; at < guest_bytes; at += kRegionBytesMax) {
      bases.push_back(::mmap(nullptr, ram.bytes(), PROT_READ, MAP_SHARED, ram.file(), 0));
    }
    return bases;
  }

  void OpenLanes(LaneKind kind, uint32_t count, const Endpoint& to) {
    const auto make_server = [this] {
      return std::make_unique<PageServer>(window_.window(), presence_, window_);
    };
    for (uint32_t stream = 0; stream < count; ++stream) {
      const LaneIntroduction lane{.lane = kind, .stream = stream, .migration = kMigration};
      lanes_.push_back(Require(LaneKeeper::Create(to, lane, make_server, fault_cores_)));
    }
  }

  const VmDescription vm_;
  const Geometry geometry_;
  GuestRam window_;
  const PageTableKeeper page_tables_;
  PresenceMap presence_;
  FaultCores fault_cores_;
  std::vector<std::unique_ptr<LaneKeeper>> lanes_;
};

/// The source where the plan wants it: another process, or threads of this one.
class SourceHost {
 public:
  SourceHost(const SourceRam& ram, const MovePlan& plan, const Endpoint& to) {
    if (plan.one_process) {
      starter_ = std::thread([=, this, &ram] { source_.emplace(ram, plan, to); });
      return;
    }
    process_.emplace([&] {
      spdlog::set_level(spdlog::level::off);
      const Source source(ram, plan, to);
      ::pause();
    });
  }
  SourceHost(const SourceHost&) = delete;
  SourceHost& operator=(const SourceHost&) = delete;
  ~SourceHost() { AwaitOpen(); }
  void AwaitOpen() {
    if (starter_.joinable()) starter_.join();
  }
  [[nodiscard]] ProcessCost Memory() const {
    return process_ ? MemoryOf(process_->pid()) : ProcessCost{};
  }
  /// The CPU seconds of its process.
  double End() { return process_ ? process_->Kill() : 0; }

 private:
  std::optional<Child> process_;
  std::thread starter_;
  std::optional<Source> source_;
};

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

/// As the engine does before the switch, where memory comes in huge pages.
void PutMemoryAhead(const NativeGuest& guest, DestinationPages& pages) {
  const Geometry geometry = Require(GeometryOf(guest.Description()));
  std::vector<PageRun> runs;
  for (size_t i = 0; i < geometry.region_count(); ++i) runs.push_back(geometry.pages_of(i));
  const auto look = [] { return Status(); };
  FAULTLINE_CHECK(pages.Expect(runs, look).has_value());
  FAULTLINE_CHECK(pages.AwaitHeadStart(look).has_value());
}

}  // namespace

SourceRam::SourceRam(uint64_t guest_bytes, bool huge)
    : bytes_(std::min(guest_bytes, kRegionBytesMax)), file_(MakeRamFile(bytes_, true, huge)) {}

void SourceRam::Warm() const {
  std::vector<char> buffer(size_t{1} << 20);
  for (uint64_t at = 0; at < bytes_; at += buffer.size()) {
    FAULTLINE_CHECK(::pread(file_.get(), buffer.data(), buffer.size(), static_cast<off_t>(at)) > 0);
  }
}

MoveResult MoveNativeGuest(const SourceRam& ram, const MovePlan& plan) {
  const MonotonicClock clock;
  MoveResult result;
  Listener listener = Require(Listener::Create({"127.0.0.1", 0}));
  NativeGuest guest(plan.guest);
  const Endpoint endpoint = listener.endpoint();
  SourceHost source(ram, plan, endpoint);
  {
    Destination destination(guest, plan, std::move(listener));
    source.AwaitOpen();
    if (plan.guest.huge) PutMemoryAhead(guest, destination.pages());
    const double cpu_before = OwnCpuSeconds();
    const Nanos start = clock.Now();
    destination.pages().Open();
    destination.pages().OpenBulk();
    if (plan.before) {
      ::usleep(20'000);  // the threads have their lanes
      plan.before();
    }
    guest.Go();
    const bool pushes = plan.bulk_streams > 0;
    while (pushes ? destination.pages().missing() > PageCount(0) : !guest.finished()) {
      std::this_thread::sleep_for(plan.look_every);
    }
    result.total = clock.Now() - start;
    guest.AwaitFinished();
    if (plan.after) plan.after();
    result.destination = MemoryOf(0);
    result.source = source.Memory();
    result.destination.cpu_s = OwnCpuSeconds() - cpu_before;
    FAULTLINE_CHECK(destination.pages().Detach().has_value());
    result.summary = destination.pages().Summary({});
    destination.pages().StopThreads();
  }
  result.source.cpu_s = source.End();
  result.latencies = guest.Latencies();
  result.wrong = guest.wrong();
  return result;
}

}  // namespace faultline::rig
