/* lwIP in the unit test: one thread, a clock that the test sets, small windows. */
#ifndef MQTT_TESTS_LWIP_LWIPOPTS_H
#define MQTT_TESTS_LWIP_LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_STATS 0
#define LWIP_IPV4 1
#define LWIP_IPV6 0
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_RAW 0
#define LWIP_UDP 1
#define LWIP_DNS 1
#define DNS_MAX_SERVERS 1
#define LWIP_NETIF_LOOPBACK 0 /* packets to ourselves take the wire, where they can be lost */
#define LWIP_HAVE_LOOPIF 0
#ifndef LWIP_ALTCP
#define LWIP_ALTCP 0
#endif

#define MEM_ALIGNMENT 8
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEMP_NUM_TCP_PCB 64
#define TCP_MSS 536
#define TCP_WND (4 * TCP_MSS)
#define TCP_SND_BUF (4 * TCP_MSS)
#define TCP_SND_QUEUELEN 16
#define MEMP_NUM_TCP_SEG 32

#endif
