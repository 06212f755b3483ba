// Words to the terminal, arguments and the exit status, by the semihosting of Arm and RISC-V.
#include <string.h>
#include "board.hpp"

namespace {

enum Semihosting : uint32_t {
  write_text = 0x04,
  time_of_day = 0x11,
  command_line = 0x15,
  exit_extended = 0x20
};

uint32_t semihosting(Semihosting operation, const void* argument) {
#ifdef __riscv
  register uint32_t a0 asm("a0") = operation;
  register const void* a1 asm("a1") = argument;
  asm volatile(".option push\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
               : "+r"(a0)
               : "r"(a1)
               : "memory");
  return a0;
#else
  register uint32_t r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory", "cc");
  return r0;
#endif
}

char arguments[256];

}  // namespace

namespace board {

void print(const char* text) { semihosting(write_text, text); }

void print_number(uint32_t number) {
  char digits[11];
  char* digit = digits + sizeof digits - 1;
  *digit = '\0';
  do {
    *--digit = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  print(digit);
}

void stop(int status) {
  const uint32_t block[2] = {0x20026, static_cast<uint32_t>(status)};
  semihosting(exit_extended, block);
  while (true) {}
}

const char* argument(const char* name) {
  if (arguments[0] == '\0') {
    struct {
      char* text;
      uint32_t size;
    } block = {arguments, sizeof arguments};
    semihosting(command_line, &block);
    for (char* character = arguments; *character != '\0'; ++character) {
      if (*character == ' ') { *character = '\0'; }
    }
  }
  const size_t size = strlen(name);
  for (const char* word = arguments; word < arguments + sizeof arguments && *word != '\0';
       word += strlen(word) + 1) {
    if (strncmp(word, name, size) == 0 && word[size] == '=') { return word + size + 1; }
  }
  return nullptr;
}

uint32_t argument(const char* name, uint32_t otherwise) {
  const char* digit = argument(name);
  if (digit == nullptr) { return otherwise; }
  uint32_t number = 0;
  while (*digit >= '0' && *digit <= '9') {
    number = number * 10 + static_cast<uint32_t>(*digit++ - '0');
  }
  return number;
}

uint32_t random_number() {
  static uint32_t state = 0;
  if (state == 0) { state = semihosting(time_of_day, nullptr) * 2654435761U + 1; }
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

}  // namespace board
