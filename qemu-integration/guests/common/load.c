#include "load_internal.h"

static void Fail(struct Worker* worker, const char* where, uint64_t page, uint32_t version,
                 uint64_t word, uint64_t expected, uint64_t got) {
  const struct Mismatch mismatch = {where, page, word, expected, got, version};
  ++worker->errors;
  ReportMismatch(worker, &mismatch);
}

// A wrong page is written anew, so that one corruption is counted once.
static void Repair(struct Load* load, uint64_t page, uint32_t version) {
  volatile uint64_t* words = LoadPage(load, page);
  uint64_t line[kHeaderWords];
  MakeHeader(load->parameters.seed, page, version, line);
  for (int i = 0; i < kHeaderWords; ++i) words[i] = line[i];
  if (version != 0) {
    WriteBody(words, load->parameters.seed, page, version);
  } else {
    for (int i = kHeaderWords; i < kPageWords; ++i) words[i] = 0;
  }
}

static bool HeaderIsRight(struct Worker* worker, uint64_t page, uint32_t version,
                          const uint64_t line[kHeaderWords]) {
  uint64_t expected[kHeaderWords];
  MakeHeader(worker->load->parameters.seed, page, version, expected);
  for (unsigned i = 0; i < kHeaderWords; ++i) {
    if (line[i] == expected[i]) continue;
    Fail(worker, "header", page, version, i, expected[i], line[i]);
    return false;
  }
  return true;
}

static bool BodyIsRight(struct Worker* worker, uint64_t page, uint32_t version) {
  const volatile uint64_t* words = LoadPage(worker->load, page);
  uint64_t expected = 0;
  const int wrong = CheckBody(words, worker->load->parameters.seed, page, version, &expected);
  if (wrong == kPageWords) return true;
  Fail(worker, "body", page, version, (uint64_t)wrong, expected, words[wrong]);
  return false;
}

static void BeginEpoch(struct Worker* worker) {
  ++worker->epoch;
  worker->epoch_first_op = worker->ops;
  worker->stalls = worker->stall_cycles = worker->stall_max = 0;
  worker->before = worker->all;
  for (unsigned i = 0; i < sizeof worker->all; ++i) ((char*)&worker->all)[i] = 0;
  for (unsigned i = 0; i < sizeof worker->first; ++i) ((char*)&worker->first)[i] = 0;
  worker->quiet_until = ReadTsc() + CyclesOfUs(worker->load, worker->load->parameters.quiet_us);
}

static void NotePlace(struct Worker* worker) {
  const uint8_t place = PlatformPlace();
  const uint32_t mark = worker->load->marks;
  if (place == worker->place && mark == worker->mark) return;
  worker->place = place;
  worker->mark = mark;
  BeginEpoch(worker);
}

static void CountStall(struct Worker* worker, uint64_t cycles) {
  if (cycles > worker->line_stall_max) worker->line_stall_max = cycles;
  if (cycles > worker->stall_max) worker->stall_max = cycles;
  if (cycles < CyclesOfUs(worker->load, kStallUs)) return;
  ++worker->stalls;
  worker->stall_cycles += cycles;
}

static void CountOp(struct Worker* worker) {
  ++worker->ops;
  if (--worker->lap_left > 0) return;
  worker->lap_left = worker->walk.pages;
  ++worker->laps;
}

// The only timed part: eight loads, and eight stores if `fresh` is given. Returns when it began.
static uint64_t Access(volatile uint64_t* words, uint64_t line[kHeaderWords], const uint64_t* fresh,
                       uint64_t* end) {
  const uint64_t begin = ReadTsc();
  for (int i = 0; i < kHeaderWords; ++i) line[i] = words[i];
  if (fresh != NULL) {
    for (int i = 0; i < kHeaderWords; ++i) words[i] = fresh[i];
  }
  *end = ReadTsc();
  return begin;
}

// `record` is the page's, or null for pages that have none.
static void Measure(struct Worker* worker, uint64_t begin, uint64_t end, const uint32_t* record) {
  const uint64_t cycles = end > begin ? end - begin : 0;
  // A slow access may be the first one in another QEMU: look before it is counted.
  if (cycles >= CyclesOfUs(worker->load, kStallUs)) NotePlace(worker);
  AddSample(&worker->all, cycles);
  if (record != NULL && (uint8_t)*record != (uint8_t)worker->epoch) {
    AddSample(&worker->first, cycles);
  }
  CountStall(worker, end > worker->last_end ? end - worker->last_end : 0);
  worker->last_end = end;
  CountOp(worker);
}

static void TouchLoadPage(struct Worker* worker) {
  struct Load* load = worker->load;
  const uint64_t page = worker->first_page + NextPage(&worker->walk);
  const uint32_t version = load->records[page] >> 8;
  const bool writes = (uint32_t)Random64(&worker->walk.random) < worker->write_threshold;
  const uint32_t next = writes ? NextVersion(version) : version;
  uint64_t line[kHeaderWords], fresh[kHeaderWords], end;
  if (writes) MakeHeader(load->parameters.seed, page, next, fresh);
  volatile uint64_t* words = LoadPage(load, page);
  const uint64_t begin = Access(words, line, writes ? fresh : NULL, &end);
  Measure(worker, begin, end, &load->records[page]);

  bool right = HeaderIsRight(worker, page, version, line);
  if ((worker->laps + page) % load->parameters.full_every == 0) {
    right = BodyIsRight(worker, page, version) && right;
  }
  if (!right) Repair(load, page, next);
  if (writes && WritesBody(next)) WriteBody(words, load->parameters.seed, page, next);
  load->records[page] = next << 8 | (uint8_t)worker->epoch;
}

static bool IsLoadPage(const struct Load* load, uint64_t page) {
  const uint64_t spread = load->parameters.spread, block = page / 512;
  return block % spread == 0 && block / spread * 512 + page % 512 < load->pages;
}

// Some page that the load never writes; false where there is none nearby.
static bool UntouchedPage(struct Worker* worker, uint64_t* page) {
  const struct Load* load = worker->load;
  for (int tries = 0; tries < 16; ++tries) {
    *page = RandomBelow(&worker->zero_random, load->memory.pages);
    if (!IsLoadPage(load, *page)) return true;
  }
  return false;
}

static bool TouchUntouchedPage(struct Worker* worker) {
  uint64_t page, line[kHeaderWords], end, expected = 0;
  if (!UntouchedPage(worker, &page)) return false;
  volatile uint64_t* words = MemoryPage(&worker->load->memory, page);
  const uint64_t begin = Access(words, line, NULL, &end);
  Measure(worker, begin, end, NULL);
  int wrong = 0;
  while (wrong < kHeaderWords && line[wrong] == 0) ++wrong;
  if (wrong == kHeaderWords) wrong = CheckBody(words, 0, page, 0, &expected);
  if (wrong != kPageWords) Fail(worker, "untouched", page, 0, (uint64_t)wrong, 0, words[wrong]);
  return true;
}

static uint64_t TotalOps(const struct Load* load) {
  uint64_t ops = 0;
  for (unsigned i = 0; i < load->parameters.smp; ++i) ops += load->workers[i].ops;
  return ops;
}

// Eight bytes, 56 bits of payload, the top bit set in the first byte only: a reader finds the
// frames again wherever the stream was cut, also where a record began in one QEMU and ended in the
// next.
static void Beat(struct Load* load) {
  const uint64_t mask = (1u << 28) - 1;
  const uint64_t payload = (++load->beats & mask) << 28 | (TotalOps(load) & mask);
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = (uint8_t)(payload >> (7 * (7 - i)) & 0x7f);
  bytes[0] |= 0x80;
  PlatformBeat(bytes);
}

static void CheckOwnPages(struct Worker* worker) {
  struct Load* load = worker->load;
  uint64_t line[kHeaderWords], errors = worker->errors;
  for (uint64_t page = worker->first_page; page < worker->first_page + worker->walk.pages; ++page) {
    const uint32_t version = load->records[page] >> 8;
    volatile uint64_t* words = LoadPage(load, page);
    for (int i = 0; i < kHeaderWords; ++i) line[i] = words[i];
    const bool header = HeaderIsRight(worker, page, version, line);
    if (!BodyIsRight(worker, page, version) || !header) Repair(load, page, version);
  }
  __sync_fetch_and_add(&load->full_errors, worker->errors - errors);
  if (__sync_add_and_fetch(&load->full_done, 1) % load->parameters.smp != 0) return;
  ReportCheck("FULL", load->pages, load->full_errors);
  load->full_errors = 0;
}

static void CheckUntouchedPages(struct Worker* worker) {
  enum { kSamples = 256 };
  const uint64_t errors = worker->errors;
  uint64_t pages = 0;
  for (int i = 0; i < kSamples; ++i) pages += TouchUntouchedPage(worker);
  ReportCheck("ZERO", pages, worker->errors - errors);
}

static void Obey(struct Worker* worker, int command) {
  struct Load* load = worker->load;
  switch (command) {
    case 'm':
      load->marks = load->marks + 1;
      break;
    case 'd':
      ReportHistograms(load);
      break;
    case 's':
      ReportLap(worker);
      break;
    case 'f':
      load->full_requests = load->full_requests + 1;
      break;
    case 'z':
      CheckUntouchedPages(worker);
      break;
    default:
      break;
  }
}

static void PollAsFirst(struct Worker* worker, uint64_t now) {
  struct Load* load = worker->load;
  if (load->parameters.beat_us != 0 && now >= worker->next_beat) {
    worker->next_beat = now + CyclesOfUs(load, load->parameters.beat_us);
    Beat(load);
  }
  if (now >= worker->next_input) {
    worker->next_input = now + CyclesOfUs(load, 1000);
    const int command = PlatformInput();
    if (command >= 0) Obey(worker, command);
  }
  // After the beat, and not too soon: the console is slower than the whole switch.
  if (now < worker->quiet_until) return;
  if (worker->epoch != worker->told_epoch) ReportSwitch(worker);
  if (now >= worker->next_line) {
    worker->next_line = now + CyclesOfUs(load, 1000000);
    ReportLap(worker);
  }
}

// Everything here is the load's own doing: what it takes is no stall.
static void Poll(struct Worker* worker, uint64_t now) {
  struct Load* load = worker->load;
  NotePlace(worker);
  if (load->full_requests != worker->full_seen) {
    ++worker->full_seen;
    CheckOwnPages(worker);
  }
  if (worker->index == 0) PollAsFirst(worker, now);
  if (load->parameters.rest_us != 0) PlatformRest(load->parameters.rest_us);
  worker->last_end = ReadTsc();
  worker->next_poll = worker->last_end + CyclesOfUs(load, load->parameters.poll_us);
}

uint64_t LoadPages(const struct Parameters* parameters, const struct Memory* memory) {
  const uint64_t blocks = memory->pages / 512 / parameters->spread;
  const uint64_t wanted = parameters->touch_mib * 256, most = blocks * 512;
  return wanted == 0 || wanted > most ? most : wanted;
}

static void StartWorker(struct Load* load, unsigned index) {
  const struct Parameters* p = &load->parameters;
  struct Worker* worker = &load->workers[index];
  worker->load = load;
  worker->index = index;
  worker->first_page = load->pages * index / p->smp;
  const uint64_t pages = load->pages * (index + 1) / p->smp - worker->first_page;
  worker->walk = StartWalk(p, pages, index);
  worker->lap_left = pages;
  worker->zero_random = Mix(p->seed + 77 + index) | 1;
  worker->write_threshold = PercentOf32(p->write_pct);
  worker->zero_threshold = p->zero_pct == 0 ? 0 : PercentOf32(p->zero_pct);
  worker->place = PlatformPlace();
  worker->epoch = worker->told_epoch =
      1;  // records start at 0, so that the first touches at the source count as such
}

void PrepareLoad(struct Load* load) {
  for (unsigned i = 0; i < load->parameters.smp; ++i) StartWorker(load, i);
}

static void Fill(struct Worker* worker) {
  struct Load* load = worker->load;
  for (uint64_t page = worker->first_page; page < worker->first_page + worker->walk.pages; ++page) {
    Repair(load, page, kFirstVersion);
    load->records[page] = kFirstVersion << 8;
  }
}

void RunWorker(struct Worker* worker) {
  struct Load* load = worker->load;
  const uint64_t begin = ReadTsc();
  if (load->parameters.fill != 0) Fill(worker);
  __sync_fetch_and_add(&load->ready, 1);
  while (load->ready < load->parameters.smp) PlatformRelax();
  worker->last_end = ReadTsc();
  if (worker->index == 0) ReportReady(load, worker->last_end - begin);
  worker->next_line = worker->last_end + CyclesOfUs(load, 1000000);
  for (;;) {
    const bool untouched = worker->zero_threshold != 0 &&
                           (uint32_t)Random64(&worker->zero_random) < worker->zero_threshold;
    if (!untouched || !TouchUntouchedPage(worker)) TouchLoadPage(worker);
    if (worker->last_end >= worker->next_poll) Poll(worker, worker->last_end);
  }
}
