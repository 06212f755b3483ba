// The board: QEMU's mps2-an385 (a Cortex-M3 at 25 MHz) with semihosting for words and arguments.
// What a port to a real board replaces is startup.cpp, semihosting.cpp and lan9118.hpp.
#ifndef EXAMPLES_CORTEX_M_BOARD_HPP
#define EXAMPLES_CORTEX_M_BOARD_HPP

#include <stddef.h>
#include <stdint.h>

namespace board {

void print(const char* text);
void print_number(uint32_t number);

/// Ends the emulator with this exit status.
[[noreturn]] void stop(int status);

/// The value of the argument NAME=value that the emulator was given, or nullptr.
const char* argument(const char* name);
/// The same as a number.
uint32_t argument(const char* name, uint32_t otherwise);

/// Since reset; wraps after 49.7 days.
uint32_t milliseconds();
void set_milliseconds(uint32_t ms);

/// The most bytes of stack that were ever in use.
uint32_t stack_used();

/// From the host's clock: enough for a demonstration, not for keys.
uint32_t random_number();

}  // namespace board

#endif
