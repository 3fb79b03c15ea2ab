// Whether to look for what is to come for a while before one sleeps. To be woken costs more than
// all else of a short wait; to look in vain costs a processor, and pays never where what is to come
// takes longer. So: only while most of it comes in time, and now and then to find out.
//
// Source: Karlin et al., "Empirical Studies of Competitive Spinning" (SOSP '91).
#pragma once

#include <algorithm>

namespace faultline {

/// One thread.
class SpinPolicy {
 public:
  static constexpr int kMissesMax = 4;  ///< more than two hits make up for: it does not pay
  static constexpr int kHitsForAMiss = 2;
  static constexpr int kWaitsSlept = 64;  ///< until it is tried again
  /// Then: two misses, for what is to come after a sleep comes late.
  static constexpr int kChances = 2;

  /// Asked once for each wait, or for each answer before it.
  [[nodiscard]] bool Pays() {
    if (to_sleep_ == 0) return true;
    --to_sleep_;
    return false;
  }
  /// What was looked for came, or did not come, in time.
  void NoteLooked(bool came) {
    owed_ = came ? std::max(owed_ - 1, 0) : owed_ + kHitsForAMiss;
    if (owed_ < kMissesMax * kHitsForAMiss) return;
    owed_ = (kMissesMax - kChances) * kHitsForAMiss;
    to_sleep_ = kWaitsSlept;
  }

 private:
  int owed_ = 0;  ///< hits
  int to_sleep_ = 0;
};

}  // namespace faultline
