#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define PROGMEM
#define PGM_P const char*
#define PGM_VOID_P const void*
#define PSTR(text) (text)
#define pgm_read_byte(place) (*(const uint8_t*)(place))
#define pgm_read_word(place) (*(const uint16_t*)(place))
#define pgm_read_dword(place) (*(const uint32_t*)(place))
#define strlen_P strlen
#define strcpy_P strcpy
#define strncpy_P strncpy
#define strcmp_P strcmp
#define strncmp_P strncmp
#define memcpy_P memcpy
#define memcmp_P memcmp
#define snprintf_P snprintf
/* of avr-libc, used by the core's String */
#ifdef __cplusplus
extern "C" {
#endif
char* itoa(int value, char* target, int base);
char* utoa(unsigned value, char* target, int base);
char* ltoa(long value, char* target, int base);
char* ultoa(unsigned long value, char* target, int base);
char* dtostrf(double value, signed char width, unsigned char precision, char* target);
#ifdef __cplusplus
}
#endif
