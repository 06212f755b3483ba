// What lwIP asks of the system it runs on.
#include <lwip/arch.h>
#include <lwip/sys.h>
#include "board.hpp"

extern "C" {

void lwip_failed(const char* why) {
  board::print("lwIP: ");
  board::print(why);
  board::print("\n");
  board::stop(96);
}

uint32_t lwip_random(void) { return board::random_number(); }

uint32_t sys_now(void) { return board::milliseconds(); }
}
