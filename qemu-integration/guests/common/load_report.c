#include "load_internal.h"
#include "text.h"

static volatile int g_busy;

// Several workers may speak. The lock is only ever held for one line.
static void Say(struct Line* line) {
  line->text[line->size] = '\n';
  while (__sync_lock_test_and_set(&g_busy, 1) != 0) PlatformRelax();
  PlatformWrite(line->text, line->size + 1);
  __sync_lock_release(&g_busy);
}

static uint64_t UsOf(const struct Load* load, uint64_t cycles) {
  return cycles / 1000 * 1000 * 1000 / load->tsc_khz + cycles % 1000 * 1000 / load->tsc_khz;
}

void ReportMismatch(struct Worker* worker, const struct Mismatch* mismatch) {
  struct Load* load = worker->load;
  if (__sync_add_and_fetch(&load->corrupt_lines, 1) > kCorruptLinesMax) return;
  struct Line line = {.size = 0};
  AddText(&line, "CORRUPT");
  AddField(&line, "page", mismatch->page);
  AddField(&line, "word", mismatch->word);
  AddHexField(&line, "expected", mismatch->expected);
  AddHexField(&line, "got", mismatch->got);
  AddField(&line, "version", mismatch->version);
  AddField(&line, "epoch", worker->epoch);
  AddField(&line, "worker", worker->index);
  AddText(&line, " where=");
  AddText(&line, mismatch->where);
  Say(&line);
}

void ReportReady(const struct Load* load, uint64_t fill_cycles) {
  const struct Parameters* p = &load->parameters;
  struct Line line = {.size = 0};
  AddText(&line, "READY");
  AddField(&line, "pages", load->pages);
  AddField(&line, "memory_pages", load->memory.pages);
  AddHexField(&line, "base", (uint64_t)(uintptr_t)load->memory.segments[0].address);
  AddField(&line, "tsc_khz", load->tsc_khz);
  AddField(&line, "fill_us", UsOf(load, fill_cycles));
  AddField(&line, "workers", p->smp);
  AddField(&line, "seed", p->seed);
  AddField(&line, "write_pct", p->write_pct);
  AddField(&line, "place", load->workers[0].place);
  AddText(&line, " pattern=");
  AddText(&line, kPatternNames[p->pattern]);
  Say(&line);
}

void ReportSwitch(struct Worker* worker) {
  worker->told_epoch = worker->epoch;
  struct Line line = {.size = 0};
  AddText(&line, "SWITCH");
  AddField(&line, "epoch", worker->epoch);
  AddField(&line, "place", worker->place);
  AddField(&line, "ops", worker->ops);
  Say(&line);
}

static uint64_t Greater(uint64_t a, uint64_t b) { return a > b ? a : b; }

void ReportLap(struct Worker* worker) {
  const struct Load* load = worker->load;
  uint64_t ops = 0, errors = 0, laps = ~0ull, line_max = 0, max = 0, stalls = 0, sum = 0,
           epoch_ops = 0;
  for (unsigned i = 0; i < load->parameters.smp; ++i) {
    struct Worker* each = &load->workers[i];
    ops += each->ops;
    epoch_ops += each->ops - each->epoch_first_op;
    errors += each->errors;
    laps = each->laps < laps ? each->laps : laps;
    line_max = Greater(line_max, each->line_stall_max);
    max = Greater(max, each->stall_max);
    stalls += each->stalls;
    sum += each->stall_cycles;
    each->line_stall_max = 0;
  }
  struct Line line = {.size = 0};
  AddText(&line, "lap");
  AddField(&line, "n", ++worker->lines);
  AddField(&line, "ops", ops);
  AddField(&line, "errors", errors);
  AddField(&line, "laps", laps);
  AddField(&line, "max_stall_us", UsOf(load, line_max));
  AddField(&line, "epoch", worker->epoch);
  AddField(&line, "place", worker->place);
  AddField(&line, "epoch_ops", epoch_ops);
  AddField(&line, "epoch_max_stall_us", UsOf(load, max));
  AddField(&line, "epoch_stalls", stalls);
  AddField(&line, "epoch_stall_us", UsOf(load, sum));
  Say(&line);
}

// Offset of a histogram in a worker, so that one function adds up any of them over all workers.
static void ReportHistogram(const struct Load* load, const char* name, size_t offset) {
  uint64_t count = 0, sum = 0, max = 0;
  for (unsigned bucket = 0; bucket <= kBuckets; ++bucket) {
    uint64_t in_bucket = 0;
    for (unsigned i = 0; i < load->parameters.smp; ++i) {
      const struct Histogram* h =
          (const struct Histogram*)((const char*)&load->workers[i] + offset);
      if (bucket < kBuckets) in_bucket += h->buckets[bucket];
      if (bucket == kBuckets)
        count += h->count, sum += h->sum_cycles, max = Greater(max, h->max_cycles);
    }
    if (bucket < kBuckets && in_bucket == 0) continue;
    struct Line line = {.size = 0};
    AddText(&line, bucket < kBuckets ? "hist " : "hist-sum ");
    AddText(&line, name);
    if (bucket < kBuckets) {
      AddChar(&line, ' ');
      AddNumber(&line, BucketLow(bucket), 10);
      AddChar(&line, ' ');
      AddNumber(&line, in_bucket, 10);
    } else {
      AddField(&line, "count", count);
      AddField(&line, "sum_cycles", sum);
      AddField(&line, "max_cycles", max);
    }
    Say(&line);
  }
}

void ReportHistograms(const struct Load* load) {
  struct Line line = {.size = 0};
  AddText(&line, "hist-begin");
  AddField(&line, "epoch", load->workers[0].epoch);
  AddField(&line, "tsc_khz", load->tsc_khz);
  Say(&line);
  ReportHistogram(load, "first", offsetof(struct Worker, first));
  ReportHistogram(load, "all", offsetof(struct Worker, all));
  ReportHistogram(load, "before", offsetof(struct Worker, before));
  line.size = 0;
  AddText(&line, "hist-end");
  Say(&line);
}

void ReportCheck(const char* name, uint64_t pages, uint64_t errors) {
  struct Line line = {.size = 0};
  AddText(&line, name);
  AddField(&line, "pages", pages);
  AddField(&line, "errors", errors);
  Say(&line);
}
