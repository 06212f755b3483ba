#!/bin/sh
# Builds and runs tests/firmware/lwip_test.cpp with lwIP's sources under the sanitizers: plain raw
# calls, and through altcp. Prints doctest's summary; needs doctest-dev and what fetch.sh needs.
set -eu
cd "$(dirname "$0")/../.."
lwip=$(sh tests/firmware/fetch.sh lwip)/src
ccache=$(command -v ccache || true)
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all"

for altcp in 0 1; do
  out=build/firmware/lwip_host_$altcp
  mkdir -p $out
  common="-g1 -O1 -fno-omit-frame-pointer -DLWIP_ALTCP=$altcp -I. -isystem tests/firmware/lwip_host
    -isystem $lwip/include"
  rm -f $out/*.o
  for name in core/init core/def core/inet_chksum core/ip core/mem core/memp core/netif core/pbuf \
    core/tcp core/tcp_in core/tcp_out core/timeouts core/udp core/dns core/altcp \
    core/altcp_alloc core/altcp_tcp core/ipv4/icmp core/ipv4/ip4 core/ipv4/ip4_addr \
    core/ipv4/ip4_frag; do
    checks="$sanitize -fno-sanitize=alignment"
    # Closing a listener reads a member that a listening pcb lacks (and does not use it).
    if [ $name = core/altcp_tcp ]; then checks=-fsanitize=undefined; fi
    # shellcheck disable=SC2086  # words are wanted
    $ccache gcc -std=c99 -w $common $checks -c $lwip/$name.c -o $out/$(basename $name).o
  done
  for source in tests/doctest_main tests/firmware/lwip_test; do
    # shellcheck disable=SC2086
    $ccache g++ -std=c++17 $common -O0 $sanitize -Wall -Wextra -Wshadow -Wconversion \
      -Wsign-conversion -c $source.cpp -o $out/$(basename $source).o
  done
  # shellcheck disable=SC2086
  g++ $sanitize $out/*.o -o $out/test
  echo "lwIP on the host, LWIP_ALTCP=$altcp"
  ASAN_OPTIONS=detect_leaks=1 $out/test --no-colors "$@"
done
