// The checking guest: no operating system, a memory load that verifies itself. See ../README.md.
#include "machine.h"
#include "qemu-integration/guests/common/load.h"

enum { kMib = 1 << 20, kStateBase = 4 * kMib, kFirstLoad = 32 * kMib, kBlock = 2 * kMib };

// SeaBIOS works in the last MiBs below 4 GiB while it starts and leaves its traces there.
enum { kFirmwareScratch = 16 * kMib };

// Multiboot information, the fields used. All addresses are physical.
struct MultibootInfo {
  uint32_t flags, memory_low, memory_high, boot_device, command_line, modules[2], symbols[4];
  uint32_t map_bytes, map_address;
} __attribute__((packed));

struct MapEntry {
  uint32_t size;
  uint64_t base, length;
  uint32_t kind;
} __attribute__((packed));

enum { kUsable = 1 };

extern uint64_t boot_pdpt[512];
extern volatile uint32_t other_count;

static struct Load g_load;
static char* g_state = (char*)kStateBase;
static volatile uint32_t g_go;

void* memset(void* to, int value, size_t size) {
  char* bytes = to;
  __asm__ volatile("rep stosb" : "+D"(bytes), "+c"(size) : "a"(value) : "memory");
  return to;
}

void* memcpy(void* to, const void* from, size_t size) {
  char* bytes = to;
  __asm__ volatile("rep movsb" : "+D"(bytes), "+S"(from), "+c"(size)::"memory");
  return to;
}

static uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

static void* TakeState(uint64_t bytes) {
  char* taken = g_state;
  g_state += RoundUp(bytes, kPageBytes);
  return taken;
}

static void AddSegment(struct Memory* memory, uint64_t from, uint64_t end) {
  if (end <= 4ull << 30) end -= kFirmwareScratch;
  from = RoundUp(from, kBlock);
  end = end / kBlock * kBlock;
  if (from >= end || memory->count == kSegmentsMax) return;
  const uint64_t pages = (end - from) / kPageBytes;
  memory->segments[memory->count++] = (struct Segment){memory->pages, pages, (char*)from};
  memory->pages += pages;
}

// The usable memory from `from` on, in whole 2 MiB blocks.
static struct Memory UsableMemory(const struct MultibootInfo* info, uint64_t from) {
  struct Memory memory = {.count = 0};
  const char* at = (const char*)(uint64_t)info->map_address;
  const char* end = at + info->map_bytes;
  while (at < end) {
    const struct MapEntry* entry = (const struct MapEntry*)at;
    const uint64_t begin = entry->base > from ? entry->base : from;
    if (entry->kind == kUsable && entry->length > kFirmwareScratch)
      AddSegment(&memory, begin, entry->base + entry->length);
    at += entry->size + sizeof entry->size;
  }
  return memory;
}

// The boot code maps 4 GiB; what lies above is mapped here, one table of 2 MiB pages per GiB used.
static void MapAbove4GiB(const struct Memory* memory) {
  const uint64_t gib = 1ull << 30;
  for (unsigned i = 0; i < memory->count; ++i) {
    const uint64_t from = (uint64_t)memory->segments[i].address;
    const uint64_t end = from + memory->segments[i].pages * kPageBytes;
    for (uint64_t at = from / gib; at * gib < end && at < 512; ++at) {
      if (boot_pdpt[at] != 0) continue;
      uint64_t* table = TakeState(kPageBytes);
      for (uint64_t entry = 0; entry < 512; ++entry)
        table[entry] = at * gib + entry * kBlock + 0x83;
      boot_pdpt[at] = (uint64_t)table | 3;
    }
  }
}

static void StartWorkers(void) {
  const uint64_t others = g_load.parameters.smp - 1;
  if (others > 0) StartOtherCpus();
  while (other_count < others) PlatformRelax();
  g_go = 1;
}

__attribute__((noreturn)) static void Run(uint64_t index) {
  if (index < g_load.parameters.smp) RunWorker(&g_load.workers[index]);
  for (;;) __asm__ volatile("cli; hlt");
}

__attribute__((noreturn)) void OtherMain(uint64_t index) {
  while (g_go == 0) PlatformRelax();
  Run(index);
}

__attribute__((noreturn)) void Main(const struct MultibootInfo* info) {
  CatchExceptions();
  StartSerial();
  struct Parameters* p = &g_load.parameters;
  *p = ParseParameters((const char*)(uint64_t)info->command_line);
  if (p->smp > kWorkersMax) p->smp = kWorkersMax;
  g_load.tsc_khz = p->tsc_khz != 0 ? p->tsc_khz : MeasureTscKhz();

  const struct Memory all = UsableMemory(info, kFirstLoad);
  MapAbove4GiB(&all);
  g_load.workers = TakeState(p->smp * sizeof *g_load.workers);
  g_load.records = TakeState(all.pages * sizeof *g_load.records);
  const uint64_t state_end = (uint64_t)g_state;
  g_load.memory = UsableMemory(info, state_end > kFirstLoad ? state_end : kFirstLoad);
  g_load.pages = LoadPages(p, &g_load.memory);
  PrepareLoad(&g_load);
  StartWorkers();
  Run(0);
}
