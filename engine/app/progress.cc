#include "engine/app/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace faultline {
namespace {

constexpr Nanos kTerminalPeriod = std::chrono::milliseconds(100);
constexpr Nanos kPlainPeriod = std::chrono::seconds(1);
constexpr Nanos kRatePeriod = std::chrono::milliseconds(200);

double Seconds(Nanos nanos) { return std::chrono::duration<double>(nanos).count(); }

}  // namespace

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDOUT_FILENO) == 1) {}

Progress::~Progress() { EndLine(); }

void Progress::EndLine() {
  if (line_open_) fmt::print("\n");
  line_open_ = false;
  std::fflush(stdout);
}

void Progress::Step(const std::string& what) {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  EndLine();
  fmt::print("{}\n", what);
  std::fflush(stdout);
}

std::string Progress::Line(const wire::ProgressBody& body) const {
  constexpr double kMebi = 1024.0 * 1024.0;
  const double done = static_cast<double>(body.total_pages - body.missing_pages);
  const double total = static_cast<double>(body.total_pages);
  const double missing_bytes = static_cast<double>(body.missing_pages) * 4096;
  const double eta = bytes_per_second_ > 0 ? missing_bytes / bytes_per_second_ : 0;
  return fmt::format(
      "{:5.1f} %  {} of {} pages missing  {:.0f} MiB/s  ETA {:.1f} s  {} faults, p50 {:.0f} us, "
      "p99 {:.0f} us",
      total > 0 ? 100 * done / total : 100, body.missing_pages, body.total_pages,
      bytes_per_second_ / kMebi, eta, body.faults, static_cast<double>(body.fault_p50_ns) / 1e3,
      static_cast<double>(body.fault_p99_ns) / 1e3);
}

void Progress::Update(const wire::ProgressBody& body, Nanos now) {
  if (quiet_) return;
  const std::lock_guard lock(mutex_);
  if (now - rate_at_ >= kRatePeriod) {
    const double bytes = static_cast<double>(body.placed_bytes) - static_cast<double>(rate_bytes_);
    bytes_per_second_ = rate_at_ == Nanos{} || bytes < 0 ? 0 : bytes / Seconds(now - rate_at_);
    rate_at_ = now;
    rate_bytes_ = body.placed_bytes;
  }
  if (now - shown_at_ < (terminal_ ? kTerminalPeriod : kPlainPeriod)) return;
  shown_at_ = now;
  if (terminal_) {
    fmt::print("\r\033[K{}", Line(body));
    line_open_ = true;
  } else {
    fmt::print("{}\n", Line(body));
  }
  std::fflush(stdout);
}

}  // namespace faultline
