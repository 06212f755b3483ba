// lwIP's sockets.h, Arduino.h and windows.h define names as macros; the header uses none of them.

#define accept(s, address, size) lwip_accept(s, address, size)
#define bind(s, name, size) lwip_bind(s, name, size)
#define connect(s, name, size) lwip_connect(s, name, size)
#define listen(s, backlog) lwip_listen(s, backlog)
#define recv(s, memory, size, flags) lwip_recv(s, memory, size, flags)
#define send(s, data, size, flags) lwip_send(s, data, size, flags)
#define select(n, r, w, e, timeout) lwip_select(n, r, w, e, timeout)
#define poll(descriptors, count, timeout) lwip_poll(descriptors, count, timeout)
#define shutdown(s, how) lwip_shutdown(s, how)
#define socket(domain, type, protocol) lwip_socket(domain, type, protocol)
#define read(s, memory, size) lwip_read(s, memory, size)
#define write(s, data, size) lwip_write(s, data, size)
#define close(s) lwip_close(s)

#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define abs(x) ((x) > 0 ? (x) : -(x))
#define round(x) ((x) >= 0 ? (long)((x) + 0.5) : (long)((x)-0.5))
#define bit(b) (1UL << (b))
#define word(...) makeWord(__VA_ARGS__)
#define F(text) (reinterpret_cast<const __FlashStringHelper*>(text))
#define HIGH 0x1
#define LOW 0x0
#define INPUT 0x0
#define OUTPUT 0x1
#define DEFAULT 1
#define INTERNAL 3
#define EXTERNAL 0
#define PI 3.1415926535897932384626433832795
#define B0 0
#define B1 1

#define DELETE (0x00010000L)
#define ERROR 0
#define IN
#define OUT
#define OPTIONAL
#define far
#define near
#define interface struct
#define small char

#include <mqtt.hpp>
