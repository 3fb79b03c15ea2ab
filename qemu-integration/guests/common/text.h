// A line of text, built without a C library. Freestanding C.
#ifndef QEMU_INTEGRATION_GUESTS_COMMON_TEXT_H_
#define QEMU_INTEGRATION_GUESTS_COMMON_TEXT_H_

#include <stddef.h>
#include <stdint.h>

enum { kLineBytesMax = 320 };

// Longer lines are cut. Start with `struct Line line = {.size = 0};`.
struct Line {
  size_t size;
  char text[kLineBytesMax];
};

static inline void AddChar(struct Line* line, char c) {
  if (line->size < kLineBytesMax - 1) line->text[line->size++] = c;
}

static inline void AddText(struct Line* line, const char* text) {
  for (; *text != '\0'; ++text) AddChar(line, *text);
}

static inline void AddNumber(struct Line* line, uint64_t value, unsigned base) {
  char digits[24];
  size_t n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  while (n > 0) AddChar(line, digits[--n]);
}

// " name=value"
static inline void AddField(struct Line* line, const char* name, uint64_t value) {
  AddChar(line, ' ');
  AddText(line, name);
  AddChar(line, '=');
  AddNumber(line, value, 10);
}

static inline void AddHexField(struct Line* line, const char* name, uint64_t value) {
  AddChar(line, ' ');
  AddText(line, name);
  AddText(line, "=0x");
  AddNumber(line, value, 16);
}

#endif  // QEMU_INTEGRATION_GUESTS_COMMON_TEXT_H_
