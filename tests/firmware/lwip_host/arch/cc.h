/* The host, for lwIP under test: failed assertions end the run, memory comes from the test. */
#ifndef MQTT_TESTS_LWIP_CC_H
#define MQTT_TESTS_LWIP_CC_H

#include <stdint.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif
void lwip_failed(const char* why) __attribute__((noreturn));
uint32_t lwip_random(void);
void* lwip_allocate(size_t size);
#ifdef __cplusplus
}
#endif

#define LWIP_RAND() lwip_random()
#define LWIP_PLATFORM_DIAG(text) ((void)0)
#define LWIP_PLATFORM_ASSERT(text) lwip_failed(text)

/* Every pcb, segment and buffer is an allocation of its own, so that the sanitizer sees who touches
   it when it is gone; the test can make one fail. */
#define mem_clib_malloc lwip_allocate
#define mem_clib_free free
#define mem_clib_calloc(count, size) lwip_allocate_zeroed((count) * (size))
static inline void* lwip_allocate_zeroed(size_t size) {
  char* memory = (char*)lwip_allocate(size);
  for (size_t i = 0; memory && i < size; ++i) { memory[i] = 0; }
  return memory;
}

#endif
