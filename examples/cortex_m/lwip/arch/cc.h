/* The compiler and the processor, for lwIP. */
#ifndef EXAMPLES_CORTEX_M_CC_H
#define EXAMPLES_CORTEX_M_CC_H

#include <stdint.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif
void lwip_failed(const char* why) __attribute__((noreturn));
uint32_t lwip_random(void);
#ifdef __cplusplus
}
#endif

#define BYTE_ORDER LITTLE_ENDIAN
#define LWIP_RAND() lwip_random()
#define LWIP_PLATFORM_DIAG(text) ((void)0)
#define LWIP_PLATFORM_ASSERT(text) lwip_failed(text)

#endif
