// What a core must offer, on this machine. A program runs for SKETCH_MS milliseconds, its time
// SKETCH_SPEED times as fast as the clock on the wall.
#include <Arduino.h>
#undef abs
#undef max
#undef min
#undef round

#include <stdio.h>
#include <time.h>
#include <unistd.h>

HostSerial Serial;

size_t HostSerial::write(uint8_t character) {
  const bool written = fputc(character, stdout) != EOF;
  if (character == '\n') { fflush(stdout); }
  return written ? 1 : 0;
}

namespace {

unsigned long number_of(const char* variable, unsigned long otherwise) {
  const char* const text = getenv(variable);
  return text == nullptr ? otherwise : strtoul(text, nullptr, 10);
}

unsigned long wall_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<unsigned long>(now.tv_sec) * 1000 +
         static_cast<unsigned long>(now.tv_nsec) / 1000000;
}

char* write_number(unsigned long value, bool negative, char* target, int base) {
  char digits[70];
  int count = 0;
  do {
    digits[count++] = "0123456789abcdefghijklmnopqrstuvwxyz"[value % static_cast<unsigned>(base)];
    value /= static_cast<unsigned>(base);
  } while (value != 0);
  char* end = target;
  if (negative) { *end++ = '-'; }
  while (count != 0) { *end++ = digits[--count]; }
  *end = '\0';
  return target;
}

}  // namespace

unsigned long millis() {
  static const unsigned long start = wall_ms();
  static const unsigned long speed = number_of("SKETCH_SPEED", 1);
  return static_cast<uint32_t>((wall_ms() - start) * speed);
}
void delay(unsigned long ms) { usleep(static_cast<useconds_t>(ms * 1000)); }
void yield(void) {}
void pinMode(uint8_t, uint8_t) {}
void digitalWrite(uint8_t, uint8_t) {}
int analogRead(uint8_t) { return 15; }
long random(long limit) { return static_cast<long>(rand()) % limit; }
void randomSeed(unsigned long seed) { srand(static_cast<unsigned>(seed)); }

extern "C" {
char* itoa(int value, char* target, int base) {
  const bool negative = value < 0 && base == 10;
  return write_number(
      negative ? 0UL - static_cast<unsigned long>(value) : static_cast<unsigned>(value), negative,
      target, base);
}
char* ltoa(long value, char* target, int base) {
  const bool negative = value < 0 && base == 10;
  return write_number(
      negative ? 0UL - static_cast<unsigned long>(value) : static_cast<unsigned long>(value),
      negative, target, base);
}
char* utoa(unsigned value, char* target, int base) {
  return write_number(value, false, target, base);
}
char* ultoa(unsigned long value, char* target, int base) {
  return write_number(value, false, target, base);
}
char* dtostrf(double value, signed char width, unsigned char precision, char* target) {
  sprintf(target, "%*.*f", width, precision, value);
  return target;
}
}

int main() {
  const unsigned long end = wall_ms() + number_of("SKETCH_MS", 5000);
  setup();
  while (wall_ms() < end) {
    loop();
    usleep(200);
  }
  return 0;
}
