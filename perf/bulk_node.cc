// One end of the benchmark `perf/bulk`, which starts both and reads what the destination prints.
#include "perf/bulk_node.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "engine/app/quantities.h"

namespace faultline::bulk {
namespace {

double Micros(Nanos value) { return static_cast<double>(value.count()) / 1e3; }

void Print(const Figures& figures, const LatencyHistogram& waits) {
  const double seconds = static_cast<double>(figures.elapsed.count()) / 1e9;
  const double bytes = figures.summary.at("data_bytes").get<double>();
  const SummaryJson line = {{"seconds", seconds},
                            {"bytes", bytes},
                            {"bytes_per_s", bytes / seconds},
                            {"cpu_s", figures.cpu_s},
                            {"waits", waits.count()},
                            {"wait_us",
                             {{"p50", Micros(waits.Quantile(0.5))},
                              {"p99", Micros(waits.Quantile(0.99))},
                              {"p999", Micros(waits.Quantile(0.999))},
                              {"max", Micros(waits.max())}}},
                            {"engine", figures.summary}};
  std::printf("%s\n", line.dump().c_str());
}

Status RunDestination(const Options& options) {
  FAULTLINE_ASSIGN(const auto guest, BulkGuest::Create(options.bytes, options.load));
  FAULTLINE_ASSIGN(Listener listener, Listener::Create(options.peer));
  FAULTLINE_ASSIGN(const Figures figures, options.raw ? RunRaw(options, listener, *guest)
                                                      : RunEngine(options, listener, *guest));
  Print(figures, guest->waits());
  return {};
}

Status RunOneSource(const Options& options) {
  FAULTLINE_ASSIGN(const double cpu_s, RunSource(options));
  std::printf("{\"cpu_s\": %.3f}\n", cpu_s);
  return {};
}

int Main(int argc, char** argv) {
  CLI::App app("One end of perf/bulk");
  std::string role;
  std::string peer;
  std::string window = "auto";
  std::string compress = "off";
  uint64_t mib = 512;
  uint64_t pause_us = 0;
  Options options;
  app.add_option("role", role)->required()->check(CLI::IsMember({"source", "destination"}));
  app.add_option("peer", peer, "ADDR:PORT")->required();
  app.add_option("--mib", mib, "memory to move; a power of two");
  app.add_option("--streams", options.streams)->check(CLI::Range(1, 16));
  app.add_option("--state-dir", options.state_dir);
  app.add_option("--window", window, "auto or a size");
  app.add_option("--touch-pause-us", pause_us, "the guest touches pages, this far apart");
  app.add_flag("--raw", options.raw, "the pipeline without the engine");
  app.add_flag("--compressible", options.compressible, "three bytes of eight are random");
  app.add_option("--compress", compress, "auto, off, lz4 or zstd");
  CLI11_PARSE(app, argc, argv);
  const Result<Endpoint> endpoint = Endpoint::Parse(peer);
  const Result<std::optional<ByteCount>> fixed = ParseWindow(window);
  const Result<wire::Compression> compression = ParseCompression(compress);
  if (!endpoint.has_value() || !fixed.has_value() || !compression.has_value()) return 2;
  options.peer = *endpoint;
  options.window = *fixed;
  options.compression = *compression;
  options.bytes = ByteCount(mib << 20);
  options.load = {.touches = pause_us > 0, .pause = std::chrono::microseconds(pause_us)};
  const Status done = role == "source" ? RunOneSource(options) : RunDestination(options);
  if (!done.has_value()) std::fprintf(stderr, "bulk_node: %s\n", done.error().message.c_str());
  return done.has_value() ? 0 : 1;
}

}  // namespace
}  // namespace faultline::bulk

int main(int argc, char** argv) { return faultline::bulk::Main(argc, argv); }
