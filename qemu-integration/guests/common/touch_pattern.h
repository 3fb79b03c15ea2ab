// Which page is touched next, and what a page holds. Freestanding C, used by both guests.
//
// A page's content follows from (seed, page, version), so that a page that went missing, came back
// stale, came from elsewhere or was torn cannot pass:
//   words 0..7 (the header line)   page, version, then six words of a sequence keyed by (seed,
//   page, version) words 8..511 (the body)        a sequence keyed by (seed, page, version & ~7)
// A write rewrites the header line; every eighth version rewrites the body too. Version 0: never
// written, all zero.
#ifndef QEMU_INTEGRATION_GUESTS_COMMON_TOUCH_PATTERN_H_
#define QEMU_INTEGRATION_GUESTS_COMMON_TOUCH_PATTERN_H_

#include "parameters.h"

enum {
  kPageBytes = 4096,
  kPageWords = kPageBytes / 8,
  kHeaderWords = 8,
  kBodyVersionMask = ~7u,
  kFirstVersion = 8,
  kLastVersion = 0xffffff,  // a page's record keeps 24 bits
  kScatterPages = 16,       // hot pages lie in clusters of so many
};

static const uint64_t kWordStep = 0x9e3779b97f4a7c15u;

static inline uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static inline uint64_t PageKey(uint64_t seed, uint64_t page, uint32_t version) {
  return Mix(seed * kWordStep + (page << 24) + version);
}

static inline uint32_t NextVersion(uint32_t version) {
  return version == 0 || version == kLastVersion ? kFirstVersion : version + 1;
}

static inline bool WritesBody(uint32_t version) { return (version & ~kBodyVersionMask) == 0; }

static inline void MakeHeader(uint64_t seed, uint64_t page, uint32_t version,
                              uint64_t line[kHeaderWords]) {
  if (version == 0) {
    for (int i = 0; i < kHeaderWords; ++i) line[i] = 0;
    return;
  }
  uint64_t word = PageKey(seed, page, version);
  line[0] = page;
  line[1] = version;
  for (int i = 2; i < kHeaderWords; ++i) line[i] = word += kWordStep;
}

static inline void WriteBody(volatile uint64_t* words, uint64_t seed, uint64_t page,
                             uint32_t version) {
  uint64_t word = ~PageKey(seed, page, version & kBodyVersionMask);
  for (int i = kHeaderWords; i < kPageWords; ++i) words[i] = word += kWordStep;
}

// Index of the first wrong word of the body, or kPageWords. *expected is what that word should be.
static inline int CheckBody(const volatile uint64_t* words, uint64_t seed, uint64_t page,
                            uint32_t version, uint64_t* expected) {
  const uint64_t step = version == 0 ? 0 : kWordStep;
  uint64_t word = version == 0 ? 0 : ~PageKey(seed, page, version & kBodyVersionMask);
  for (int i = kHeaderWords; i < kPageWords; ++i) {
    word += step;
    if (words[i] != word) {
      *expected = word;
      return i;
    }
  }
  return kPageWords;
}

// One worker's way through its pages, [0, pages).
struct Walk {
  enum Pattern pattern;
  uint64_t pages, stride, hot_pages, scatter_blocks, scatter_step;
  uint32_t hot_threshold;  // of 2^32
  uint64_t random, position, offset;
};

static inline uint64_t Random64(uint64_t* state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

// A number in [0, bound), bound < 2^32.
static inline uint64_t RandomBelow(uint64_t* state, uint64_t bound) {
  return ((Random64(state) >> 32) * bound) >> 32;
}

static inline uint32_t PercentOf32(uint64_t percent) {
  return percent >= 100 ? 0xffffffffu : (uint32_t)((percent << 32) / 100);
}

static inline uint64_t CommonDivisor(uint64_t a, uint64_t b) {
  while (b != 0) {
    const uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

static inline struct Walk StartWalk(const struct Parameters* p, uint64_t pages, uint64_t worker) {
  struct Walk walk = {.pattern = p->pattern, .pages = pages};
  walk.stride = p->stride < pages ? p->stride : 1;
  walk.hot_pages = AtLeastOne(pages * p->hot_pct / 100);
  walk.hot_threshold = PercentOf32(p->hot_share);
  walk.random = Mix(p->seed * 2 + 1 + (worker << 32)) | 1;
  // Block k of the hot set lies at k * step: a step without a common divisor visits each block
  // once.
  walk.scatter_blocks = AtLeastOne(pages / kScatterPages);
  walk.scatter_step = walk.scatter_blocks * 5 / 8 + 1;
  while (CommonDivisor(walk.scatter_step, walk.scatter_blocks) != 1) ++walk.scatter_step;
  return walk;
}

static inline uint64_t Scatter(const struct Walk* walk, uint64_t page) {
  const uint64_t block = page / kScatterPages;
  if (block >= walk->scatter_blocks) return page;
  return block * walk->scatter_step % walk->scatter_blocks * kScatterPages + page % kScatterPages;
}

static inline uint64_t NextPage(struct Walk* walk) {
  switch (walk->pattern) {
    case kSequential:
      if (++walk->position >= walk->pages) walk->position = 0;
      return walk->position;
    case kStride:
      walk->position += walk->stride;
      if (walk->position >= walk->pages) {
        if (++walk->offset >= walk->stride) walk->offset = 0;
        walk->position = walk->offset;
      }
      return walk->position;
    case kHotset: {
      const bool hot = (uint32_t)(Random64(&walk->random) >> 32) < walk->hot_threshold;
      return Scatter(walk, RandomBelow(&walk->random, hot ? walk->hot_pages : walk->pages));
    }
    case kRandom:
    default:
      return RandomBelow(&walk->random, walk->pages);
  }
}

#endif  // QEMU_INTEGRATION_GUESTS_COMMON_TOUCH_PATTERN_H_
