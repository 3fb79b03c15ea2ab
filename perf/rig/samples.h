// Latencies of a benchmark, exactly.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace faultline::rig {

/// The upper one of two. REQUIRES: there is one.
inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Samples {
 public:
  Samples() = default;
  explicit Samples(std::vector<uint32_t> ns) : ns_(std::move(ns)) {
    std::sort(ns_.begin(), ns_.end());
  }
  [[nodiscard]] size_t count() const { return ns_.size(); }
  /// µs; zero if there is none.
  [[nodiscard]] double Quantile(double quantile) const {
    if (ns_.empty()) return 0;
    const auto rank = static_cast<size_t>(quantile * static_cast<double>(ns_.size() - 1));
    return ns_[rank] / 1e3;
  }
  [[nodiscard]] const std::vector<uint32_t>& ns() const { return ns_; }
  /// Those of at least `least` ns.
  [[nodiscard]] Samples AtLeast(uint32_t least) const {
    return Samples({std::lower_bound(ns_.begin(), ns_.end(), least), ns_.end()});
  }
  void Add(const Samples& more) {
    std::vector<uint32_t> all = ns_;
    all.insert(all.end(), more.ns_.begin(), more.ns_.end());
    *this = Samples(std::move(all));
  }
  /// One after the other: each of ours with one of `second`'s, drawn by chance.
  [[nodiscard]] Samples FollowedBy(const Samples& second) const {
    std::mt19937 random(1);
    std::uniform_int_distribution<size_t> draw(0, second.count() - 1);
    std::vector<uint32_t> sums;
    for (const uint32_t first : ns_) sums.push_back(first + second.ns_[draw(random)]);
    return Samples(std::move(sums));
  }

 private:
  std::vector<uint32_t> ns_;  ///< sorted
};

}  // namespace faultline::rig
