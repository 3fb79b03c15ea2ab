// The PC as far as the checking guest needs it: ports, COM1, the debug console, the PIT, the local
// APIC.
#ifndef QEMU_INTEGRATION_GUESTS_CHECKER_MACHINE_H_
#define QEMU_INTEGRATION_GUESTS_CHECKER_MACHINE_H_

#include <stdint.h>

enum {
  kCom1 = 0x3f8,
  kDebugConsole = 0xe9,
  kPitChannel2 = 0x42,
  kPitCommand = 0x43,
  kSpeakerGate = 0x61,
  kPitHz = 1193182,
};

static inline void Out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint8_t In8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

void StartSerial(void);

// Counts the TSC over at least 10 ms of the PIT's channel 2.
uint64_t MeasureTscKhz(void);

// Sends INIT and SIPI to every other vCPU; they arrive in OtherMain.
void StartOtherCpus(void);

// From now on an exception prints a line and stops its vCPU.
void CatchExceptions(void);

#endif  // QEMU_INTEGRATION_GUESTS_CHECKER_MACHINE_H_
