// How cost grows: with the guest's size, and with the number of threads that fault.
//
//   threads   1 to 64 threads of a native guest fault, the pusher idle, on 1, 2 and 4 shards
//   sizes     1, 2, 4 and 8 GiB move with the pusher at work: time and CPU per GiB, and what either
//             engine takes of memory for itself: RssAnon + VmPTE + ledger
//
// Interleaved: each repetition measures all of them; medians. Goals: issue 3.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>

#include "perf/rig/native_move.h"
#include "perf/rig/samples.h"
#include "perf/rig/warm_memory.h"

namespace faultline::rig {
namespace {

struct Options {
  int repetitions = 3;
  uint32_t touches = 16'384;
  std::vector<uint32_t> threads{1, 2, 4, 8, 16, 32, 64};
  std::vector<uint32_t> shards{1, 2, 4};
  std::vector<uint64_t> gib{1, 2, 4, 8};
  std::string json_path;
};

MoveResult Move(const SourceRam& ram, const MovePlan& plan) {
  MoveResult result = MoveNativeGuest(ram, plan);
  FAULTLINE_CHECK(result.wrong == 0);
  return result;
}

struct ThreadsCell {
  std::vector<double> faults_per_s;
  std::vector<double> p50_us;
  std::vector<double> p99_us;
};
using ThreadsTable = std::map<std::pair<uint32_t, uint32_t>, ThreadsCell>;  ///< threads, shards

void MeasureThreads(const Options& options, const SourceRam& ram, int number, ThreadsTable& table) {
  for (const uint32_t threads : options.threads) {
    for (const uint32_t shards : options.shards) {
      MovePlan plan;
      plan.guest = {.bytes = uint64_t{1} << 30,
                    .threads = threads,
                    .touches = options.touches,
                    .seed = static_cast<uint64_t>(2 * number + 1)};
      plan.shards = shards;
      plan.look_every = std::chrono::milliseconds(20);
      plan.bulk_streams = 0;
      MoveResult result = Move(ram, plan);
      const double seconds = std::chrono::duration<double>(result.total).count();
      const Samples latencies(std::move(result.latencies));
      ThreadsCell& cell = table[{threads, shards}];
      cell.faults_per_s.push_back(options.touches / seconds);
      cell.p50_us.push_back(latencies.Quantile(0.5));
      cell.p99_us.push_back(latencies.Quantile(0.99));
    }
  }
}

SummaryJson ReportThreads(const ThreadsTable& table) {
  SummaryJson json = SummaryJson::array();
  fmt::print("\n  threads  shards   faults/s   p50 us   p99 us\n");
  for (const auto& [key, cell] : table) {
    fmt::print("  {:>7} {:>7} {:>10.0f} {:>8.0f} {:>8.0f}\n", key.first, key.second,
               Median(cell.faults_per_s), Median(cell.p50_us), Median(cell.p99_us));
    json.push_back({{"threads", key.first},
                    {"shards", key.second},
                    {"faults_per_s", Median(cell.faults_per_s)},
                    {"p50_us", Median(cell.p50_us)},
                    {"p99_us", Median(cell.p99_us)}});
  }
  return json;
}

struct SizeCell {
  std::vector<double> ms_per_gib;
  std::vector<double> source_cpu_per_gib;
  std::vector<double> destination_cpu_per_gib;
  std::vector<double> source_mib;
  std::vector<double> destination_mib;
};
using SizeTable = std::map<uint64_t, SizeCell>;

void MeasureSizes(const Options& options, const SourceRam& ram, int number, SizeTable& table) {
  for (const uint64_t gib : options.gib) {
    MovePlan plan;
    plan.guest = {.bytes = gib << 30, .seed = static_cast<uint64_t>(2 * number + 1)};
    WarmMemory(ByteCount(plan.guest.bytes + plan.guest.bytes / 8));
    const MoveResult result = Move(ram, plan);
    const auto size = static_cast<double>(gib);
    const auto own_mib = [](const ProcessCost& cost) {
      return static_cast<double>(cost.anon_kib + cost.page_tables_kib) / 1024;
    };
    SizeCell& cell = table[gib];
    cell.ms_per_gib.push_back(std::chrono::duration<double, std::milli>(result.total).count() /
                              size);
    cell.source_cpu_per_gib.push_back(result.source.cpu_s / size);
    cell.destination_cpu_per_gib.push_back(result.destination.cpu_s / size);
    cell.source_mib.push_back(own_mib(result.source));
    const double ledger_mib = size * 1024 / 4096;
    cell.destination_mib.push_back(own_mib(result.destination) + ledger_mib);
  }
}

SummaryJson ReportSizes(const SizeTable& table) {
  SummaryJson json = SummaryJson::array();
  fmt::print("\n  GiB   ms/GiB   CPU s/GiB source  destination   MiB source  destination  limit\n");
  for (const auto& [gib, cell] : table) {
    const double limit_mib = 64 + static_cast<double>(gib) * 1.024;
    fmt::print("  {:>3} {:>8.0f} {:>18.2f} {:>12.2f} {:>12.1f} {:>12.1f} {:>6.0f}\n", gib,
               Median(cell.ms_per_gib), Median(cell.source_cpu_per_gib),
               Median(cell.destination_cpu_per_gib), Median(cell.source_mib),
               Median(cell.destination_mib), limit_mib);
    json.push_back({{"gib", gib},
                    {"ms_per_gib", Median(cell.ms_per_gib)},
                    {"source_cpu_s_per_gib", Median(cell.source_cpu_per_gib)},
                    {"destination_cpu_s_per_gib", Median(cell.destination_cpu_per_gib)},
                    {"source_mib", Median(cell.source_mib)},
                    {"destination_mib", Median(cell.destination_mib)},
                    {"limit_mib", limit_mib}});
  }
  const SizeCell& first = table.begin()->second;
  const SizeCell& last = table.rbegin()->second;
  const auto cpu = [](const SizeCell& cell) {
    return Median(cell.source_cpu_per_gib) + Median(cell.destination_cpu_per_gib);
  };
  fmt::print("\n  largest over smallest, per GiB: time {:.2f}, CPU {:.2f}   goal 1.10\n",
             Median(last.ms_per_gib) / Median(first.ms_per_gib), cpu(last) / cpu(first));
  return json;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Cost by number of faulting threads and by size of the guest. Root."};
  app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 100));
  app.add_option("--touches", options.touches, "of all threads together");
  app.add_option("--threads", options.threads, "numbers of threads; 0 alone: none")->delimiter(',');
  app.add_option("--shards", options.shards)->delimiter(',');
  app.add_option("--gib", options.gib, "powers of two; 0 alone: none")->delimiter(',');
  app.add_option("--json", options.json_path);
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  const SourceRam ram(uint64_t{1} << 30, false);
  ThreadsTable threads;
  SizeTable sizes;
  for (int number = 0; number < options.repetitions; ++number) {
    if (options.threads.front() > 0) MeasureThreads(options, ram, number, threads);
    if (options.gib.front() > 0) MeasureSizes(options, ram, number, sizes);
  }
  SummaryJson json;
  if (!threads.empty()) json["threads"] = ReportThreads(threads);
  if (!sizes.empty()) json["sizes"] = ReportSizes(sizes);
  if (!options.json_path.empty()) std::ofstream(options.json_path) << json.dump(2) << '\n';
  return 0;
}

}  // namespace
}  // namespace faultline::rig

int main(int argc, char** argv) { return faultline::rig::Main(argc, argv); }
