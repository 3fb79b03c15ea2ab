// The memory load of the guests: touch, verify, measure, tell. Freestanding C; one Worker per vCPU,
// each with pages of its own. The guest around it gives the memory, the six Platform functions,
// and calls RunWorker once on every vCPU.
#ifndef QEMU_INTEGRATION_GUESTS_COMMON_LOAD_H_
#define QEMU_INTEGRATION_GUESTS_COMMON_LOAD_H_

#include "histogram.h"
#include "parameters.h"
#include "touch_pattern.h"

enum { kSegmentsMax = 8, kWorkersMax = 64 };

// Runs of whole 4 KiB pages, in the order in which the load numbers them.
struct Memory {
  unsigned count;
  uint64_t pages;
  struct Segment {
    uint64_t first_page, pages;
    char* address;
  } segments[kSegmentsMax];
};

struct Load;

struct Worker {
  struct Load* load;
  unsigned index;
  uint64_t first_page;
  struct Walk walk;
  uint32_t write_threshold, zero_threshold;  // of 2^32
  volatile uint64_t ops, errors, laps;
  uint64_t lap_left, zero_random;
  // Since the epoch began. An epoch begins when the guest finds itself in another QEMU (its place
  // changes), or with the command `m`.
  uint8_t place;
  uint32_t mark, full_seen, epoch, told_epoch;
  uint64_t epoch_first_op, stalls, stall_cycles, stall_max;
  struct Histogram all, first, before;  // before: `all` of the epoch that ended
  uint64_t line_stall_max;              // since the last lap line
  uint64_t last_end, next_poll, next_beat, next_input, next_line, quiet_until, lines;
};

struct Load {
  struct Parameters parameters;
  struct Memory memory;
  uint64_t pages;     // that the load writes; the others of `memory` stay as they are
  uint32_t* records;  // a page's version << 8 | epoch of its last touch
  uint64_t tsc_khz, beats;
  struct Worker* workers;  // parameters.smp of them
  volatile uint32_t marks, full_requests, full_done, corrupt_lines, ready;
  volatile uint64_t full_errors;
};

uint8_t PlatformPlace(void);  // changes when another QEMU runs the guest
void PlatformBeat(const uint8_t bytes[8]);
int PlatformInput(void);  // a byte of the command stream, or -1
void PlatformWrite(const char* text, size_t size);
void PlatformRelax(void);        // other workers may run now
void PlatformRest(uint64_t us);  // stand still for about so long

// Both are done once, before any RunWorker. `records` is zero and has room for LoadPages() entries.
uint64_t LoadPages(const struct Parameters* parameters, const struct Memory* memory);
void PrepareLoad(struct Load* load);

// Fills, then loads for ever. Worker 0 waits for the others before it says READY.
void RunWorker(struct Worker* worker);

#endif  // QEMU_INTEGRATION_GUESTS_COMMON_LOAD_H_
