// Shared by load.c (the walk of one touch) and load_report.c (what the guest says).
#ifndef QEMU_INTEGRATION_GUESTS_COMMON_LOAD_INTERNAL_H_
#define QEMU_INTEGRATION_GUESTS_COMMON_LOAD_INTERNAL_H_

#include "load.h"

enum { kStallUs = 20, kCorruptLinesMax = 32 };

static inline uint64_t ReadTsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
  return (uint64_t)high << 32 | low;
}

static inline uint64_t CyclesOfUs(const struct Load* load, uint64_t us) {
  return us * load->tsc_khz / 1000;
}

static inline volatile uint64_t* MemoryPage(const struct Memory* memory, uint64_t page) {
  const struct Segment* segment = memory->segments;
  while (page >= segment->first_page + segment->pages) ++segment;
  return (volatile uint64_t*)(segment->address + (page - segment->first_page) * kPageBytes);
}

// Where page number `page` of the load lies: `spread` leaves whole 2 MiB blocks out.
static inline uint64_t SpreadPage(uint64_t page, uint64_t spread) {
  const uint64_t block_pages = 512;
  return page / block_pages * spread * block_pages + page % block_pages;
}

static inline volatile uint64_t* LoadPage(const struct Load* load, uint64_t page) {
  return MemoryPage(&load->memory, SpreadPage(page, load->parameters.spread));
}

struct Mismatch {
  const char* where;
  uint64_t page, word, expected, got;
  uint32_t version;
};

void ReportMismatch(struct Worker* worker, const struct Mismatch* mismatch);
void ReportReady(const struct Load* load, uint64_t fill_cycles);
void ReportLap(struct Worker* worker);
void ReportSwitch(struct Worker* worker);
void ReportHistograms(const struct Load* load);
void ReportCheck(const char* name, uint64_t pages, uint64_t errors);

#endif  // QEMU_INTEGRATION_GUESTS_COMMON_LOAD_INTERNAL_H_
