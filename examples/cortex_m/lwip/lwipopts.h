/* lwIP on a small chip: one thread, raw calls, IPv4 and TCP. The sizes serve a broker of five
   connections; all memory is lwIP's own and fixed. */
#ifndef EXAMPLES_CORTEX_M_LWIPOPTS_H
#define EXAMPLES_CORTEX_M_LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0 /* nothing of lwIP runs in an interrupt */
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_STATS 0
#define LWIP_IPV4 1
#define LWIP_IPV6 0
#define LWIP_ARP 1
#define LWIP_RAW 0
#define ARP_QUEUEING 1 /* the answers to several first packets wait for one address */

#ifndef LWIP_DNS
#define LWIP_DNS 0
#endif
#ifndef LWIP_DHCP
#define LWIP_DHCP 0
#endif
#define LWIP_UDP (LWIP_DNS || LWIP_DHCP)
#ifndef LWIP_ALTCP
#define LWIP_ALTCP 0
#endif

#define MEM_ALIGNMENT 4
#ifndef MEM_SIZE
#define MEM_SIZE 12288 /* what is on its way out */
#endif
#define TCP_MSS 536
#ifndef TCP_WND
#define TCP_WND (4 * TCP_MSS)
#endif
#define TCP_SND_BUF (4 * TCP_MSS)
#define TCP_SND_QUEUELEN 16
#define MEMP_NUM_TCP_SEG 48
#define MEMP_NUM_TCP_PCB 10 /* five in use, the others still closing */
#define MEMP_NUM_TCP_PCB_LISTEN 1
#define MEMP_NUM_PBUF 16
#define PBUF_POOL_SIZE 24
#define PBUF_POOL_BUFSIZE 640 /* a segment and its headers */
#define TCP_LISTEN_BACKLOG 1
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define LWIP_NETIF_TX_SINGLE_PBUF 0

#endif
