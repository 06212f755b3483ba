// Reset, vectors and the 1 ms tick for QEMU's mps2 boards.
#include <string.h>
#include "board.hpp"

namespace {

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

uint32_t milliseconds() { return ticks; }

void set_milliseconds(uint32_t ms) { ticks = ms; }

uint32_t stack_used() {
  const uint32_t* word = &stack_begin;
  while (word < &stack_end && *word == paint) { ++word; }
  return static_cast<uint32_t>((&stack_end - word) * 4);
}

}  // namespace board
