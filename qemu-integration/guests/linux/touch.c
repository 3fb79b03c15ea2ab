// The checking guest's load as a Linux process: first and only program of the initramfs. See
// ../README.md. Parameters come from /proc/cmdline; speaks on /dev/ttyS0; needs root for the port
// of the debug console.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "qemu-integration/guests/common/load.h"

enum { kDebugConsole = 0xe9, kCommandLineMax = 4096 };

static struct Load g_load;
static int g_console;

static void Die(const char* what) {
  dprintf(g_console > 0 ? g_console : 2, "LOAD FAILED %s: %m\n", what);
  exit(1);
}

// Not part of the guest's migrated state: see the checker's machine.c.
uint8_t PlatformPlace(void) { return inb(kDebugConsole); }

void PlatformBeat(const uint8_t bytes[8]) {
  for (int i = 0; i < 8; ++i) outb(bytes[i], kDebugConsole);
}

int PlatformInput(void) {
  unsigned char byte;
  return read(g_console, &byte, 1) == 1 ? byte : -1;
}

void PlatformWrite(const char* text, size_t size) {
  while (size > 0) {
    const ssize_t written = write(g_console, text, size);
    if (written > 0) text += written, size -= (size_t)written;
    if (written <= 0) usleep(1000);  // the console's buffer is full
  }
}

void PlatformRelax(void) { sched_yield(); }

void PlatformRest(uint64_t us) { usleep((useconds_t)us); }

static void OpenConsole(void) {
  g_console = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK);
  if (g_console < 0) Die("open /dev/ttyS0");
  struct termios raw;
  if (tcgetattr(g_console, &raw) != 0) Die("tcgetattr");
  cfmakeraw(&raw);
  if (tcsetattr(g_console, TCSANOW, &raw) != 0) Die("tcsetattr");
}

static struct Parameters ReadParameters(void) {
  static char line[kCommandLineMax];
  FILE* file = fopen("/proc/cmdline", "r");
  if (file == NULL || fgets(line, sizeof line, file) == NULL) Die("read /proc/cmdline");
  fclose(file);
  return ParseParameters(line);
}

static uint64_t NowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t MeasureTscKhz(void) {
  const uint64_t begin_ns = NowNs(), begin = __builtin_ia32_rdtsc();
  usleep(100000);
  const uint64_t cycles = __builtin_ia32_rdtsc() - begin;
  return cycles * 1000000 / (NowNs() - begin_ns);
}

// All that is asked for, or four fifths of what is free.
static struct Memory TakeMemory(uint64_t touch_mib) {
  struct sysinfo info;
  sysinfo(&info);
  const uint64_t block = 2u << 20;
  const uint64_t most = (uint64_t)info.freeram * info.mem_unit / 5 * 4;
  const uint64_t wanted = touch_mib == 0 || touch_mib << 20 > most ? most : touch_mib << 20;
  const uint64_t bytes = (wanted + block - 1) / block * block;
  char* address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) Die("mmap");
  return (struct Memory){.count = 1,
                         .pages = bytes / kPageBytes,
                         .segments = {{.pages = bytes / kPageBytes, .address = address}}};
}

static void* WorkerMain(void* argument) {
  struct Worker* worker = argument;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(worker->index, &one);
  sched_setaffinity(0, sizeof one, &one);
  RunWorker(worker);
  return NULL;
}

int main(void) {
  OpenConsole();
  if (ioperm(kDebugConsole, 1, 1) != 0) Die("ioperm");
  struct Parameters* p = &g_load.parameters;
  *p = ReadParameters();
  p->spread = 1;
  if (p->smp > kWorkersMax) p->smp = kWorkersMax;
  g_load.tsc_khz = p->tsc_khz != 0 ? p->tsc_khz : MeasureTscKhz();
  g_load.memory = TakeMemory(p->touch_mib);
  g_load.pages = LoadPages(p, &g_load.memory);
  g_load.records = calloc(g_load.pages, sizeof *g_load.records);
  g_load.workers = calloc(p->smp, sizeof *g_load.workers);
  if (g_load.records == NULL || g_load.workers == NULL) Die("calloc");
  PrepareLoad(&g_load);
  for (unsigned i = 1; i < p->smp; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, WorkerMain, &g_load.workers[i]) != 0) Die("pthread_create");
  }
  WorkerMain(&g_load.workers[0]);
}
