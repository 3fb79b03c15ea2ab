// What the boot line of a guest says: `name=value` words, unknown ones ignored. Freestanding C.
#ifndef QEMU_INTEGRATION_GUESTS_COMMON_PARAMETERS_H_
#define QEMU_INTEGRATION_GUESTS_COMMON_PARAMETERS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum Pattern { kRandom, kSequential, kStride, kHotset };

struct Parameters {
  enum Pattern pattern;
  uint64_t touch_mib;   // how much memory the load uses; 0: all there is
  uint64_t stride;      // pages between two touches of `stride`
  uint64_t seed;        // of the pattern and of the page contents
  uint64_t write_pct;   // share of touches that write
  uint64_t hot_pct;     // share of the pages that is hot (`hotset`)
  uint64_t hot_share;   // share of the touches that goes to the hot pages
  uint64_t full_every;  // a visited page is checked in full once in so many laps
  uint64_t zero_pct;  // share of touches that go to never-written pages instead, which must be zero
  uint64_t spread;    // the load uses one 2 MiB block of so many
  uint64_t fill;      // 1: write every page before READY; 0: pages are zero until first written
  uint64_t beat_us;   // guest time between two heartbeats; 0: none
  uint64_t poll_us;   // guest time between two looks at the place
  uint64_t quiet_us;  // guest time from an epoch's begin to the first line that nobody asked for
  uint64_t rest_us;   // the load sleeps so long after each look at the place; 0: never
  uint64_t tsc_khz;   // 0: measured
  uint64_t smp;       // workers, one per vCPU
};

static const char* const kPatternNames[] = {"random", "sequential", "stride", "hotset"};

static inline bool WordIs(const char* text, const char* word) {
  while (*word != '\0' && *text == *word) ++text, ++word;
  return *word == '\0' && (*text == '\0' || *text == ' ' || *text == '\n');
}

// Value of `name=` in the line, or null.
static inline const char* FindValue(const char* line, const char* name) {
  for (const char* at = line; *at != '\0'; ++at) {
    if (at != line && at[-1] != ' ') continue;
    size_t n = 0;
    while (name[n] != '\0' && at[n] == name[n]) ++n;
    if (name[n] == '\0' && at[n] == '=') return at + n + 1;
  }
  return NULL;
}

static inline uint64_t NumberOr(const char* line, const char* name, uint64_t fallback) {
  const char* text = FindValue(line, name);
  if (text == NULL || *text < '0' || *text > '9') return fallback;
  uint64_t value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) value = value * 10 + (uint64_t)(*text - '0');
  return value;
}

static inline uint64_t AtLeastOne(uint64_t value) { return value == 0 ? 1 : value; }

static inline struct Parameters ParseParameters(const char* line) {
  struct Parameters p = {
      .pattern = kRandom,
      .touch_mib = NumberOr(line, "touch_mib", 0),
      .stride = AtLeastOne(NumberOr(line, "stride", 17)),
      .seed = NumberOr(line, "seed", 1),
      .write_pct = NumberOr(line, "write_pct", 50),
      .hot_pct = NumberOr(line, "hot_pct", 10),
      .hot_share = NumberOr(line, "hot_share", 90),
      .full_every = AtLeastOne(NumberOr(line, "full_every", 16)),
      .zero_pct = NumberOr(line, "zero_pct", 0),
      .spread = AtLeastOne(NumberOr(line, "spread", 1)),
      .fill = NumberOr(line, "fill", 1),
      .beat_us = NumberOr(line, "beat_us", 250),
      .poll_us = AtLeastOne(NumberOr(line, "poll_us", 50)),
      .quiet_us = NumberOr(line, "quiet_us", 0),
      .rest_us = NumberOr(line, "rest_us", 0),
      .tsc_khz = NumberOr(line, "tsc_khz", 0),
      .smp = AtLeastOne(NumberOr(line, "smp", 1)),
  };
  const char* pattern = FindValue(line, "pattern");
  for (int i = 0; pattern != NULL && i < 4; ++i) {
    if (WordIs(pattern, kPatternNames[i])) p.pattern = (enum Pattern)i;
  }
  return p;
}

#endif  // QEMU_INTEGRATION_GUESTS_COMMON_PARAMETERS_H_
