// Whether to look for what is to come for a while before one sleeps. To be woken costs more than
// all else of a short wait; to look in vain costs a processor, and pays never where what is to come
// takes longer. So: only while it tends to come in time, and now and then to find out.
//
// Source: Karlin et al., "Empirical Studies of Competitive Spinning" (SOSP '91).
#pragma once

namespace faultline {

/// One thread.
class SpinPolicy {
 public:
  static constexpr int kMissesMax = 4;    ///< in a row: it does not pay
  static constexpr int kWaitsSlept = 64;  ///< until it is tried again

  /// Asked once for each wait, or for each answer before it.
  [[nodiscard]] bool Pays() {
    if (to_sleep_ == 0) return true;
    --to_sleep_;
    return false;
  }
  /// What was looked for came, or did not come, in time.
  void NoteLooked(bool came) {
    misses_ = came ? 0 : misses_ + 1;
    if (misses_ < kMissesMax) return;
    misses_ = kMissesMax - 1;  // one more miss, and it sleeps as long again
    to_sleep_ = kWaitsSlept;
  }

 private:
  int misses_ = 0;
  int to_sleep_ = 0;
};

}  // namespace faultline
