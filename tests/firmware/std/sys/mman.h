/* No memory protection here: what the guard pages of tests/guard.hpp catch, the host's run does. */
#ifndef MQTT_TESTS_FIRMWARE_MMAN_H
#define MQTT_TESTS_FIRMWARE_MMAN_H

#include "../small_std.hpp"

#define PROT_NONE 0
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_PRIVATE 0
#define MAP_ANONYMOUS 0
#define MAP_FAILED nullptr

inline void* mmap(void*, size_t size, int, int, ...) { return pool::take(size); }
inline int munmap(void* memory, size_t) {
  pool::give_back(memory);
  return 0;
}
inline int mprotect(void*, size_t, int) { return 0; }

#endif
