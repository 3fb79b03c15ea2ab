// How long a guest's thread waits for a page: a native guest, the real engine, TCP over loopback,
// against the floor of the same minute.
//
//   floor     a userfaultfd round trip and a 16 B → 4 KiB ping-pong, one after the other: every
//             sample of one with a sample of the other, the ping-pong in its fastest mode
//   raw both  the same two in one loop, in each of the modes: what any engine of that mode costs
//   idle      demand fetches alone
//   pushed    with the pusher at full rate beside them; touches under 5 µs found their page there
//
// The guest's RAM, at both ends and that of the floor's guest, lies on a tmpfs with huge pages, as
// the README advises, or in small pages. At the destination it is put ahead of need as the engine
// does, and what the engine takes has been warmed (warm_memory.h): the floor's memory is there,
// too. Interleaved: each repetition measures all of them, in turning order. Goals: issue 3.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <map>

#include "perf/rig/floor.h"
#include "perf/rig/native_move.h"
#include "perf/rig/samples.h"
#include "perf/rig/touch_plan.h"
#include "perf/rig/warm_memory.h"

namespace faultline::rig {
namespace {

struct Options {
  int repetitions = 10;
  uint32_t touches = 8192;
  uint64_t guest_mib = 1024;
  uint32_t shards = 1;
  uint32_t threads = 1;
  std::string io = "auto";
  std::string pages = "huge";
  bool pushed = true;
  bool free = false;
  std::string json_path;
};

bool IsHuge(const Options& options) { return options.pages == "huge"; }

constexpr uint32_t kWaitedNs = 5'000;

struct Repetition {
  Samples uffd;
  Samples ping;
  std::string ping_mode;
  Samples floor;
  std::array<Samples, std::size(kPingModes)> both;  ///< by mode
  Samples idle;
  Samples pushed;
  SummaryJson idle_summary;
  SummaryJson pushed_summary;
};

void MeasureFloor(const Options& options, Repetition& into) {
  const FloorGuest guest{std::min(options.guest_mib << 20, kRegionBytesMax), IsHuge(options)};
  WarmMemory(ByteCount(guest.bytes));
  into.uffd = Samples(UserfaultRoundTrips(guest, options.touches));
  for (const PingMode mode : kPingModes) {
    const Samples samples(PingPongs(options.touches / 2, mode));
    const bool best = into.ping.count() == 0 || samples.Quantile(0.5) < into.ping.Quantile(0.5);
    if (!best) continue;
    into.ping = samples;
    into.ping_mode = NameOf(mode);
  }
  into.floor = into.uffd.FollowedBy(into.ping);
  for (size_t mode = 0; mode < into.both.size(); ++mode) {
    WarmMemory(ByteCount(guest.bytes));
    into.both[mode] = Samples(RawFetches(guest, options.touches / 2, kPingModes[mode]));
  }
}

MoveResult Move(const Options& options, const SourceRam& ram, uint32_t streams, uint64_t seed) {
  MovePlan plan;
  plan.guest = {
      .bytes = options.guest_mib << 20,
      .threads = options.threads,
      .touches = streams == 0 ? options.touches : (options.guest_mib << 20) / 4096,
      .seed = seed,
      .cpu = options.free || options.threads > 1 ? std::nullopt : std::optional(kGuestCpu),
      .huge = IsHuge(options)};
  plan.look_every = std::chrono::milliseconds(50);
  plan.shards = options.shards;
  plan.bulk_streams = streams;
  plan.io = options.io == "uring"   ? IoPreference::kUring
            : options.io == "epoll" ? IoPreference::kEpoll
                                    : IoPreference::kBest;
  WarmMemory(ByteCount(plan.guest.bytes));
  ram.Warm();
  MoveResult result = MoveNativeGuest(ram, plan);
  FAULTLINE_CHECK(result.wrong == 0);
  return result;
}

void MeasureIdle(const Options& options, const SourceRam& ram, uint64_t seed, Repetition& into) {
  MoveResult result = Move(options, ram, 0, seed);
  into.idle = Samples(std::move(result.latencies));
  into.idle_summary = result.summary["fault_latency_us"];
}

void MeasurePushed(const Options& options, const SourceRam& ram, uint64_t seed, Repetition& into) {
  MoveResult result = Move(options, ram, 2, seed);
  into.pushed = Samples(std::move(result.latencies)).AtLeast(kWaitedNs);
  into.pushed_summary = result.summary["fault_latency_us"];
}

Repetition Measure(const Options& options, const SourceRam& ram, int number) {
  Repetition repetition;
  const auto seed = static_cast<uint64_t>(2 * number + 1);
  if (number % 2 == 0) MeasureFloor(options, repetition);
  MeasureIdle(options, ram, seed, repetition);
  if (options.pushed) MeasurePushed(options, ram, seed, repetition);
  if (number % 2 != 0) MeasureFloor(options, repetition);
  return repetition;
}

SummaryJson Numbers(const Samples& samples) {
  return {{"count", samples.count()},
          {"p50", samples.Quantile(0.5)},
          {"p90", samples.Quantile(0.9)},
          {"p99", samples.Quantile(0.99)},
          {"p999", samples.Quantile(0.999)}};
}

void PrintRow(const char* name, const Samples& samples) {
  fmt::print("  {:<31} {:>8} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f}\n", name, samples.count(),
             samples.Quantile(0.5), samples.Quantile(0.9), samples.Quantile(0.99),
             samples.Quantile(0.999));
}

/// The median over the repetitions of engine / floor at one quantile.
double MedianRatio(const std::vector<Repetition>& all, Samples Repetition::*of, double quantile) {
  std::vector<double> ratios;
  for (const Repetition& each : all) {
    ratios.push_back((each.*of).Quantile(quantile) / each.floor.Quantile(quantile));
  }
  return Median(std::move(ratios));
}

SummaryJson PrintRatio(const std::vector<Repetition>& all, const char* name,
                       Samples Repetition::*of, double quantile, double goal) {
  const double ratio = MedianRatio(all, of, quantile);
  fmt::print("  {:<22} {:>6.2f}   goal {:.1f}   {}\n", name, ratio, goal,
             ratio <= goal ? "met" : "missed");
  return {{"ratio", ratio}, {"goal", goal}};
}

SummaryJson Report(const std::vector<Repetition>& all) {
  Repetition pooled;
  std::map<std::string, int> modes;
  for (const Repetition& each : all) {
    for (Samples Repetition::*part : {&Repetition::uffd, &Repetition::ping, &Repetition::floor,
                                      &Repetition::idle, &Repetition::pushed}) {
      (pooled.*part).Add(each.*part);
    }
    for (size_t mode = 0; mode < each.both.size(); ++mode) pooled.both[mode].Add(each.both[mode]);
    ++modes[each.ping_mode];
  }
  fmt::print("\n  us                                 count      p50      p90      p99    p99.9\n");
  PrintRow("uffd", pooled.uffd);
  PrintRow("ping", pooled.ping);
  PrintRow("floor", pooled.floor);
  PrintRow("idle", pooled.idle);
  PrintRow("pushed", pooled.pushed);
  for (size_t mode = 0; mode < pooled.both.size(); ++mode) {
    PrintRow(fmt::format("raw both, {}", NameOf(kPingModes[mode])).c_str(), pooled.both[mode]);
  }
  for (const auto& [mode, times] : modes) {
    fmt::print("  ping was fastest: {} {} times\n", mode, times);
  }
  fmt::print("\n  engine / floor, median of {} repetitions\n", all.size());
  SummaryJson json = {{"uffd", Numbers(pooled.uffd)},
                      {"ping", Numbers(pooled.ping)},
                      {"floor", Numbers(pooled.floor)},
                      {"idle", Numbers(pooled.idle)},
                      {"pushed", Numbers(pooled.pushed)}};
  for (size_t mode = 0; mode < pooled.both.size(); ++mode) {
    json["raw_both"][NameOf(kPingModes[mode])] = Numbers(pooled.both[mode]);
  }
  json["idle_p50"] = PrintRatio(all, "idle, median", &Repetition::idle, 0.5, 1.3);
  json["idle_p99"] = PrintRatio(all, "idle, p99", &Repetition::idle, 0.99, 2);
  json["pushed_p99"] = PrintRatio(all, "pusher at work, p99", &Repetition::pushed, 0.99, 4);
  for (const Repetition& each : all) {
    json["repetitions"].push_back({{"ping_mode", each.ping_mode},
                                   {"floor", Numbers(each.floor)},
                                   {"idle", Numbers(each.idle)},
                                   {"pushed", Numbers(each.pushed)},
                                   {"idle_engine", each.idle_summary},
                                   {"pushed_engine", each.pushed_summary}});
  }
  return json;
}

void PrintStages(const char* name, const SummaryJson& latency) {
  fmt::print("  {:<7} engine p50 {:.1f} p99 {:.1f} us;", name, latency["p50"].get<double>(),
             latency["p99"].get<double>());
  for (const auto& [stage, numbers] : latency["stages"].items()) {
    fmt::print(" {} {:.1f}/{:.1f}", stage, numbers["p50"].get<double>(),
               numbers["p99"].get<double>());
  }
  fmt::print("\n");
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Demand fetch latency against the machine's floor. Root."};
  app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 1000));
  app.add_option("--touches", options.touches, "with the pusher idle, and of the floor")
      ->check(CLI::Range(1, 16384));
  app.add_option("--guest-mib", options.guest_mib, "a power of two");
  app.add_option("--shards", options.shards);
  app.add_option("--threads", options.threads, "of the guest");
  app.add_option("--io", options.io)->check(CLI::IsMember({"auto", "uring", "epoll"}));
  app.add_option("--pages", options.pages, "of the guest's RAM")
      ->check(CLI::IsMember({"huge", "small"}));
  app.add_flag("--pushed,!--no-pushed", options.pushed, "measure with the pusher at work, too");
  app.add_flag("--free", options.free, "the guest's thread may change its core; the floor's stays");
  app.add_option("--json", options.json_path);
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  const SourceRam ram(options.guest_mib << 20, IsHuge(options));
  std::vector<Repetition> all;
  for (int number = 0; number < options.repetitions; ++number) {
    all.push_back(Measure(options, ram, number));
    const Repetition& last = all.back();
    fmt::print("{:>3}  floor {:.1f}/{:.1f}  idle {:.1f}/{:.1f}  pushed {:.1f}/{:.1f} us\n",
               number + 1, last.floor.Quantile(0.5), last.floor.Quantile(0.99),
               last.idle.Quantile(0.5), last.idle.Quantile(0.99), last.pushed.Quantile(0.5),
               last.pushed.Quantile(0.99));
    PrintStages("idle", last.idle_summary);
    if (options.pushed) PrintStages("pushed", last.pushed_summary);
    std::fflush(stdout);
  }
  const SummaryJson json = Report(all);
  if (!options.json_path.empty()) std::ofstream(options.json_path) << json.dump(2) << '\n';
  return 0;
}

}  // namespace
}  // namespace faultline::rig

int main(int argc, char** argv) { return faultline::rig::Main(argc, argv); }
