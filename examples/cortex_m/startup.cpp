// Reset, vectors, the 1 ms tick and semihosting for QEMU's mps2 boards.
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
  register uint32_t r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory", "cc");
  return r0;
}

volatile uint32_t& hardware_register(uint32_t address) {
  return *reinterpret_cast<volatile uint32_t*>(address);
}

constexpr uint32_t systick_control = 0xE000E010;
constexpr uint32_t systick_reload = 0xE000E014;
constexpr uint32_t interrupt_pending_clear = 0xE000E280;
constexpr uint32_t fault_status = 0xE000ED28;
constexpr uint32_t core_hz = 25000000;
constexpr uint32_t ethernet_interrupt = 13;
constexpr uint32_t paint = 0xA5A5A5A5;

volatile uint32_t ticks;
char arguments[256];

using Function = void (*)();

}  // namespace

extern "C" {
extern uint32_t data_source, data_begin, data_end, bss_begin, bss_end, lwip_begin, lwip_end;
extern uint32_t stack_begin, stack_end;
extern Function init_array_begin[], init_array_end[];
int main();
void reset();

static void on_tick() { ticks = ticks + 1; }

// Only there to end a wait: the driver has masked its source.
static void on_ethernet() { hardware_register(interrupt_pending_clear) = 1U << ethernet_interrupt; }

static void on_fault() {
  board::print("fault, CFSR ");
  board::print_number(hardware_register(fault_status));
  board::print("\n");
  board::stop(99);
}

void reset() {
  memcpy(&data_begin, &data_source,
         static_cast<size_t>(reinterpret_cast<uint8_t*>(&data_end) -
                             reinterpret_cast<uint8_t*>(&data_begin)));
  for (uint32_t* word = &bss_begin; word < &bss_end; ++word) { *word = 0; }
  for (uint32_t* word = &lwip_begin; word < &lwip_end; ++word) { *word = 0; }
  uint32_t here;
  asm volatile("mov %0, sp" : "=r"(here));
  for (volatile uint32_t* word = &stack_begin; word < reinterpret_cast<uint32_t*>(here) - 16;
       ++word) {
    *word = paint;
  }
  hardware_register(systick_reload) = core_hz / 1000 - 1;
  hardware_register(systick_control) = 7;  // the core's clock, with interrupt, on
  for (Function* function = init_array_begin; function < init_array_end; ++function) {
    (*function)();
  }
  board::stop(main());
}

__attribute__((section(".vectors"), used))
const Function vectors[16 + ethernet_interrupt + 1] = {reinterpret_cast<Function>(&stack_end),
                                                       reset,
                                                       on_fault,
                                                       on_fault,
                                                       on_fault,
                                                       on_fault,
                                                       on_fault,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       on_fault,
                                                       nullptr,
                                                       nullptr,
                                                       on_fault,
                                                       on_tick,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       nullptr,
                                                       on_ethernet};
}

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

uint32_t milliseconds() { return ticks; }

void set_milliseconds(uint32_t ms) { ticks = ms; }

uint32_t stack_used() {
  const uint32_t* word = &stack_begin;
  while (word < &stack_end && *word == paint) { ++word; }
  return static_cast<uint32_t>((&stack_end - word) * 4);
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
