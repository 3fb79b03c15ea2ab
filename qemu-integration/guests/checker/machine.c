#include "machine.h"

#include <stddef.h>

#include "qemu-integration/guests/common/load.h"
#include "qemu-integration/guests/common/text.h"

enum { kLineStatus = kCom1 + 5, kReceived = 1, kTransmitterEmpty = 0x20, kTrampoline = 0x8000 };

extern const char trampoline[], trampoline_end[], exception_stubs[];
extern struct Gate {
  uint16_t low, selector, kind, middle;
  uint32_t high, zero;
} idt[32];

void StartSerial(void) {
  Out8(kCom1 + 1, 0);     // no interrupts
  Out8(kCom1 + 3, 0x80);  // divisor latch: 115200
  Out8(kCom1 + 0, 1);
  Out8(kCom1 + 1, 0);
  Out8(kCom1 + 3, 3);  // 8 bits
  Out8(kCom1 + 2, 0);  // no FIFO: QEMU then sends each byte at once
  Out8(kCom1 + 4, 3);
}

void PlatformWrite(const char* text, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    for (int tries = 0; tries < 100000 && (In8(kLineStatus) & kTransmitterEmpty) == 0; ++tries) {
      PlatformRelax();
    }
    Out8(kCom1, (uint8_t)text[i]);
  }
}

int PlatformInput(void) { return (In8(kLineStatus) & kReceived) != 0 ? In8(kCom1) : -1; }

// Reading the debug console gives its `readback` property. It belongs to the QEMU, not to the
// guest's state, so it tells the guest which QEMU it runs in.
uint8_t PlatformPlace(void) { return In8(kDebugConsole); }

void PlatformBeat(const uint8_t bytes[8]) {
  for (int i = 0; i < 8; ++i) Out8(kDebugConsole, bytes[i]);
}

void PlatformRelax(void) { __asm__ volatile("pause"); }

static uint64_t Tsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

struct Instant {
  uint64_t tsc;
  uint16_t counter;
};

// The counter of the PIT's channel 2 and the TSC at the same moment: of some tries the one that
// took least, since a host that is busy may stop this vCPU between the two.
static struct Instant ReadBothClocks(void) {
  struct Instant best = {0, 0};
  uint64_t shortest = ~0ull;
  for (int tries = 0; tries < 32; ++tries) {
    const uint64_t begin = Tsc();
    Out8(kPitCommand, 0x80);  // latch channel 2
    const uint64_t end = Tsc();
    const uint16_t low = In8(kPitChannel2), high = In8(kPitChannel2);
    if (end - begin >= shortest) continue;
    shortest = end - begin;
    best = (struct Instant){begin + shortest / 2, (uint16_t)(low | high << 8)};
  }
  return best;
}

uint64_t MeasureTscKhz(void) {
  Out8(kSpeakerGate, (In8(kSpeakerGate) & 0xfc) | 1);  // gate open, speaker off
  Out8(kPitCommand, 0xb0);                             // channel 2, mode 0: counts down once
  Out8(kPitChannel2, 0xff);
  Out8(kPitChannel2, 0xff);
  const struct Instant begin = ReadBothClocks();
  struct Instant end;
  do {
    end = ReadBothClocks();
  } while (begin.counter - end.counter < kPitHz / 100 && (In8(kSpeakerGate) & 0x20) == 0);
  const uint64_t ticks = (uint16_t)(begin.counter - end.counter);
  return (end.tsc - begin.tsc) * kPitHz / ticks / 1000;
}

static void WaitUs(uint64_t us, uint64_t tsc_khz) {
  const uint64_t end = Tsc() + us * tsc_khz / 1000;
  while (Tsc() < end) PlatformRelax();
}

// Close enough: the TSC runs at some GHz.
void PlatformRest(uint64_t us) { WaitUs(us, 2000000); }

void StartOtherCpus(void) {
  // Volatile, and a variable, so that the compiler does not see a fixed array in page zero.
  volatile char* to = (volatile char*)kTrampoline;
  for (const char* from = trampoline; from != trampoline_end; ++from) *to++ = *from;
  volatile uint32_t* command = (volatile uint32_t*)0xfee00300u;
  *command = 0xc4500;  // INIT to all but self
  WaitUs(10000, 1000000);
  *command = 0xc4600 | (kTrampoline >> 12);  // SIPI to all but self
}

void CatchExceptions(void) {
  for (unsigned i = 0; i < 32; ++i) {
    const uint64_t stub = (uint64_t)exception_stubs + i * 16;
    idt[i] = (struct Gate){.low = (uint16_t)stub,
                           .selector = 8,
                           .kind = 0x8e00,
                           .middle = (uint16_t)(stub >> 16),
                           .high = (uint32_t)(stub >> 32)};
  }
}

__attribute__((noreturn)) void Exception(uint64_t vector, const uint64_t* stack) {
  uint64_t address;
  __asm__ volatile("movq %%cr2, %0" : "=r"(address));
  struct Line line = {.size = 0};
  AddText(&line, "EXCEPTION");
  AddField(&line, "vector", vector);
  AddHexField(&line, "cr2", address);
  for (int i = 0; i < 4; ++i) AddHexField(&line, "stack", stack[i]);
  AddChar(&line, '\n');
  PlatformWrite(line.text, line.size);
  for (;;) __asm__ volatile("cli; hlt");
}
