#include "engine/app/summary.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace faultline {
namespace {

double Micros(Nanos nanos) { return std::chrono::duration<double, std::micro>(nanos).count(); }
double Millis(Nanos nanos) { return std::chrono::duration<double, std::milli>(nanos).count(); }

SummaryJson Percentiles(const LatencyHistogram& histogram) {
  return {{"p50", Micros(histogram.Quantile(0.50))},
          {"p90", Micros(histogram.Quantile(0.90))},
          {"p99", Micros(histogram.Quantile(0.99))},
          {"p999", Micros(histogram.Quantile(0.999))},
          {"max", Micros(histogram.max())}};
}

/// `object[key]`, or zero where the peer's part has no such number.
double Number(const SummaryJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

uint64_t Whole(const SummaryJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

std::string Word(const SummaryJson& object, const char* key, const char* otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

SummaryJson Object(const SummaryJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : SummaryJson::object();
}

SummaryJson ReadPart(const ReadNumbers& reading) {
  if (reading.device.empty()) return SummaryJson::object();
  return {{"device", reading.device},
          {"read_bytes", reading.read_bytes.value()},
          {"pinned_bytes", reading.pinned.value()},
          {"register_ms", Millis(reading.registering)},
          {"lanes_lost", reading.lost}};
}

/// A line of its own, where pages were read.
std::string DescribeReading(const SummaryJson& summary) {
  const SummaryJson rdma = Object(summary, "rdma");
  const SummaryJson source = Object(rdma, "source");
  const SummaryJson destination = Object(rdma, "destination");
  if (destination.empty()) return {};
  constexpr double kMebi = 1024.0 * 1024.0;
  return fmt::format(
      "\n  rdma     {:.1f} MiB read over {}; pinned {:.0f} MiB at the source in {:.0f} ms, {:.0f} "
      "MiB at the destination in {:.0f} ms; {:.0f} lanes lost",
      Number(destination, "read_bytes") / kMebi, Word(destination, "device", "?"),
      Number(source, "pinned_bytes") / kMebi, Number(source, "register_ms"),
      Number(destination, "pinned_bytes") / kMebi, Number(destination, "register_ms"),
      Number(destination, "lanes_lost"));
}

const char* Name(wire::Codec codec) {
  if (codec == wire::Codec::kLz4) return "lz4";
  return codec == wire::Codec::kZstd ? "zstd" : "none";
}

/// Where a demand fetch's time went: p50/p99 of each stage.
std::string DescribeStages(const SummaryJson& latency) {
  const SummaryJson stages = Object(latency, "stages");
  std::string line;
  for (const char* name : {"read", "request", "source", "network", "place"}) {
    const SummaryJson stage = Object(stages, name);
    line += fmt::format("{}{} {:.1f}/{:.1f}", line.empty() ? "" : ", ", name, Number(stage, "p50"),
                        Number(stage, "p99"));
  }
  return line;
}

}  // namespace

SummaryJson DestinationPart(const DestinationNumbers& numbers, const FaultMetrics& faults) {
  const FaultCounters& exits = faults.faults;
  SummaryJson latency = Percentiles(faults.total);
  latency["sum"] = Micros(faults.total.sum());
  latency["stages"] = {
      {"read", Percentiles(faults.read)},     {"request", Percentiles(faults.request)},
      {"source", Percentiles(faults.source)}, {"network", Percentiles(faults.network)},
      {"fetch", Percentiles(faults.fetch)},   {"place", Percentiles(faults.place)}};
  const bool read = numbers.reading.read_bytes > ByteCount(0);
  return {{"transport", read ? "rdma" : "tcp"},
          {"rdma", ReadPart(numbers.reading)},
          {"guest_bytes", numbers.guest_bytes.value()},
          {"data_bytes", numbers.data_bytes.value()},
          {"wire_bytes", numbers.wire_bytes.value()},
          {"faults",
           {{"count", exits.count.value()},
            {"from_urgent", exits.from_urgent.value()},
            {"overtook", exits.overtook.value()},
            {"joined_bulk", exits.joined_bulk.value()},
            {"zero", exits.zero.value()},
            {"already_held", exits.already_held.value()},
            {"again", exits.again.value()}}},
          {"fault_latency_us", latency},
          {"bulk",
           {{"window_bytes", numbers.window_bytes.value()},
            {"bytes_per_s", numbers.bulk_bytes_per_second},
            {"codec", Name(numbers.codec)},
            {"packed_bytes", numbers.packed_pages.value()},
            {"packed_to_bytes", numbers.packed_sent.value()}}},
          {"pushed_pages", numbers.pushed_pages},
          {"early_pages", numbers.early_pages},
          {"zero_pages", numbers.zero_pages},
          {"hole_pages", numbers.hole_pages},
          {"removed_pages", faults.removed_pages.value()},
          {"retries", numbers.retries},
          {"attach_ms", numbers.attach_ms},
          {"device_load_ms", numbers.device_load_ms},
          {"cpu_s", ProcessCpuSeconds()}};
}

SummaryJson SourcePart(const SourceNumbers& numbers) {
  return {{"result", numbers.result},
          {"blackout_ms", Millis(numbers.blackout)},
          {"total_ms", Millis(numbers.total)},
          {"prepare_ms", Millis(numbers.prepare)},
          {"device_bytes", numbers.device_bytes.value()},
          {"first_pages", numbers.first_pages},
          {"rdma", ReadPart(numbers.reading)},
          {"retries", numbers.retries},
          {"cpu_s", ProcessCpuSeconds()}};
}

SummaryJson AfterwardsPart(const CollapseReport& report) {
  return {{"huge_bytes", report.huge.value()},
          {"left_bytes", report.left.value()},
          {"collapse_ms", Millis(report.took)},
          {"longest_ms", Millis(report.longest)}};
}

SummaryJson MergeSummary(const SummaryJson& source, const SummaryJson& destination) {
  SummaryJson merged = {{"result", Word(source, "result", "paused")},
                        {"mode", "post-copy"},
                        {"transport", "tcp"},
                        {"blackout_ms", Number(source, "blackout_ms")},
                        {"total_ms", Number(source, "total_ms")},
                        {"prepare_ms", Number(source, "prepare_ms")},
                        {"device_bytes", Whole(source, "device_bytes")},
                        {"first_pages", Whole(source, "first_pages")}};
  for (const auto& [key, value] : destination.items()) {
    if (key != "result") merged[key] = value;
  }
  merged["rdma"] = {{"source", Object(source, "rdma")},
                    {"destination", Object(destination, "rdma")}};
  merged["retries"] = Whole(source, "retries") + Whole(destination, "retries");
  merged["cpu_s"] = {{"source", Number(source, "cpu_s")},
                     {"destination", Number(destination, "cpu_s")}};
  return merged;
}

SummaryJson ParseSummary(std::span<const std::byte> body) {
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  SummaryJson parsed = SummaryJson::parse(text, nullptr, /*allow_exceptions=*/false);
  return parsed.is_object() ? parsed : SummaryJson::object();
}

std::string DescribeSummary(const SummaryJson& summary) {
  const SummaryJson faults = Object(summary, "faults");
  const SummaryJson latency = Object(summary, "fault_latency_us");
  const SummaryJson cpu = Object(summary, "cpu_s");
  constexpr double kMebi = 1024.0 * 1024.0;
  return fmt::format(
      "{}: {:.0f} MiB of guest RAM, {:.1f} MiB sent, {:.0f} zero pages never sent\n"
      "  blackout {:.1f} ms, total {:.0f} ms (of it {:.0f} ms before the switch)\n"
      "  faults   {:.0f}: {:.0f} fetched on demand, {:.0f} overtook the pusher, {:.0f} joined it, "
      "{:.0f} zero, {:.0f} already there\n"
      "  latency  p50 {:.0f} us, p90 {:.0f} us, p99 {:.0f} us, p99.9 {:.0f} us, max {:.0f} us\n"
      "  stages   p50/p99 us: {}\n"
      "  cpu      source {:.2f} s, destination {:.2f} s{}",
      Word(summary, "result", "unknown"), Number(summary, "guest_bytes") / kMebi,
      Number(summary, "data_bytes") / kMebi,
      Number(summary, "zero_pages") + Number(summary, "hole_pages"), Number(summary, "blackout_ms"),
      Number(summary, "total_ms"), Number(summary, "prepare_ms"), Number(faults, "count"),
      Number(faults, "from_urgent"), Number(faults, "overtook"), Number(faults, "joined_bulk"),
      Number(faults, "zero"), Number(faults, "already_held") + Number(faults, "again"),
      Number(latency, "p50"), Number(latency, "p90"), Number(latency, "p99"),
      Number(latency, "p999"), Number(latency, "max"), DescribeStages(latency),
      Number(cpu, "source"), Number(cpu, "destination"), DescribeReading(summary));
}

std::string DescribeAfterwards(const CollapseReport& report) {
  return fmt::format("  huge     {} MiB mapped by huge pages in {:.0f} ms, {} MiB left",
                     report.huge.value() >> 20, Millis(report.took), report.left.value() >> 20);
}

Status WriteSummary(const std::string& path, const SummaryJson& summary) {
  if (path.empty()) return {};
  const std::string fresh = path + ".new";
  std::ofstream file(fresh, std::ios::trunc);
  file << summary.dump(2) << '\n';
  file.close();
  if (file.fail() || std::rename(fresh.c_str(), path.c_str()) != 0) {
    return Fail(ErrorKind::kSystem,
                fmt::format("cannot write the summary to {}: {}; the migration itself is not "
                            "affected",
                            path, std::strerror(errno)));
  }
  return {};
}

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace faultline
