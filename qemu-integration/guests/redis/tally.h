// What the answers of a server amount to: per bin of time and in all.
#ifndef QEMU_INTEGRATION_GUESTS_REDIS_TALLY_H_
#define QEMU_INTEGRATION_GUESTS_REDIS_TALLY_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

constexpr int64_t kNsPerMs = 1'000'000;

[[noreturn]] inline void Die(const std::string& what) {
  std::fprintf(stderr, "redis_load: %s\n", what.c_str());
  std::exit(1);
}

class Tally {
 public:
  Tally(int64_t start_ns, uint32_t bin_ms) : start_ns_(start_ns), bin_ns_(bin_ms * kNsPerMs) {}

  void Answer(int64_t sent_ns, int64_t now_ns, bool right) {
    Bin& bin = BinAt(now_ns);
    const int64_t latency_us = (now_ns - sent_ns) / 1000;
    ++bin.ops;
    bin.worst_us = std::max(bin.worst_us, latency_us);
    bin.errors += right ? 0 : 1;
    longest_gap_ns_ = std::max(longest_gap_ns_, now_ns - last_ns_);
    last_ns_ = now_ns;
    // Microseconds, rounded to two digits: a small map instead of every sample.
    int64_t unit = 1;
    while (latency_us / unit >= 100) unit *= 10;
    ++latencies_[latency_us / unit * unit];
  }

  void Start(int64_t now_ns) { start_ns_ = last_ns_ = now_ns; }
  void LostConnection() { ++lost_; }

  int64_t Percentile(double share) const {
    const double wanted = share * static_cast<double>(Total().ops);
    double seen = 0;
    for (const auto& [latency_us, count] : latencies_) {
      seen += static_cast<double>(count);
      if (seen >= wanted) return latency_us;
    }
    return 0;
  }

  bool Clean() const { return Total().errors == 0 && lost_ == 0 && Total().ops > 0; }

  void PrintSummary() const {
    const double seconds = static_cast<double>(std::max<int64_t>(last_ns_ - start_ns_, 1)) / 1e9;
    const Bin total = Total();
    std::printf(
        "redis: ops=%llu ops_per_s=%.0f p50_us=%lld p99_us=%lld p999_us=%lld worst_us=%lld "
        "longest_gap_ms=%.1f errors=%llu lost_connections=%u\n",
        static_cast<unsigned long long>(total.ops), static_cast<double>(total.ops) / seconds,
        static_cast<long long>(Percentile(0.5)), static_cast<long long>(Percentile(0.99)),
        static_cast<long long>(Percentile(0.999)), static_cast<long long>(total.worst_us),
        static_cast<double>(longest_gap_ns_) / 1e6, static_cast<unsigned long long>(total.errors),
        lost_);
  }

  void WriteJson(const std::string& path) const {
    FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) Die("cannot write " + path + ": " + std::strerror(errno));
    const Bin total = Total();
    std::fprintf(file,
                 "{\"start_ns\":%lld,\"bin_ms\":%lld,\"ops\":%llu,\"p50_us\":%lld,\"p99_us\":%lld,"
                 "\"p999_us\":%lld,\"worst_us\":%lld,\"longest_gap_ms\":%.3f,\"errors\":%llu,"
                 "\"lost_connections\":%u,\"bins\":[",
                 static_cast<long long>(start_ns_), static_cast<long long>(bin_ns_ / kNsPerMs),
                 static_cast<unsigned long long>(total.ops),
                 static_cast<long long>(Percentile(0.5)), static_cast<long long>(Percentile(0.99)),
                 static_cast<long long>(Percentile(0.999)), static_cast<long long>(total.worst_us),
                 static_cast<double>(longest_gap_ns_) / 1e6,
                 static_cast<unsigned long long>(total.errors), lost_);
    for (size_t i = 0; i < bins_.size(); ++i) {
      std::fprintf(file, "%s{\"ops\":%llu,\"worst_us\":%lld,\"errors\":%llu}", i == 0 ? "" : ",",
                   static_cast<unsigned long long>(bins_[i].ops),
                   static_cast<long long>(bins_[i].worst_us),
                   static_cast<unsigned long long>(bins_[i].errors));
    }
    std::fputs("]}\n", file);
    std::fclose(file);
  }

 private:
  struct Bin {
    uint64_t ops = 0, errors = 0;
    int64_t worst_us = 0;
  };

  Bin& BinAt(int64_t now_ns) {
    const size_t index = static_cast<size_t>((now_ns - start_ns_) / bin_ns_);
    if (index >= bins_.size()) bins_.resize(index + 1);
    return bins_[index];
  }

  Bin Total() const {
    Bin total;
    for (const Bin& bin : bins_) {
      total.ops += bin.ops;
      total.errors += bin.errors;
      total.worst_us = std::max(total.worst_us, bin.worst_us);
    }
    return total;
  }

  int64_t start_ns_, bin_ns_, last_ns_ = 0, longest_gap_ns_ = 0;
  uint32_t lost_ = 0;
  std::vector<Bin> bins_;
  std::map<int64_t, uint64_t> latencies_;
};

#endif  // QEMU_INTEGRATION_GUESTS_REDIS_TALLY_H_
