#!/bin/sh
# Builds build/cortex_m/PROGRAM-CPU.elf from examples/cortex_m/PROGRAM.cpp and lwIP.
#
#   sh examples/cortex_m/build.sh PROGRAM [CPU] [FLAG...]     CPU: cortex-m3, cortex-m0plus, …
#
# Debian packages: gcc-arm-none-eabi libnewlib-arm-none-eabi dpkg-dev. No libstdc++.
set -eu
cd "$(dirname "$0")/../.."
program=$1 cpu=${2:-cortex-m3}
if [ $# -gt 1 ]; then shift 2; else shift; fi
lwip=$(sh tests/firmware/fetch.sh lwip)/src
here=examples/cortex_m
out=build/cortex_m
objects=$out/objects-$program-$cpu
elf=$out/$program-$cpu.elf
mkdir -p $objects
common="-mcpu=$cpu -mthumb -Os -DNDEBUG -ffunction-sections -fdata-sections -I. -I$here
  -isystem $here/lwip -isystem $lwip/include $*"
ccache=$(command -v ccache || true)

# shellcheck disable=SC2086  # words are wanted
compile_c() {  # SOURCE OBJECT
  $ccache arm-none-eabi-gcc -std=c99 -w $common -c "$1" -o "$2"
}
archive=$objects/liblwip.a
rm -f $objects/*
for name in core/init core/def core/inet_chksum core/ip core/mem core/memp core/netif core/pbuf \
  core/tcp core/tcp_in core/tcp_out core/timeouts core/udp core/dns core/altcp core/altcp_alloc \
  core/altcp_tcp core/ipv4/etharp core/ipv4/icmp core/ipv4/ip4 core/ipv4/ip4_addr \
  core/ipv4/ip4_frag netif/ethernet; do
  compile_c "$lwip/$name.c" "$objects/$(basename $name).o"
done
arm-none-eabi-ar rcs $archive $objects/*.o

# shellcheck disable=SC2086
for source in startup lwip_port $program; do
  $ccache arm-none-eabi-gcc -std=c++17 $common -Wall -Wextra -Wshadow -Wconversion \
    -Wsign-conversion -Wno-register -fno-exceptions -fno-rtti -fno-threadsafe-statics \
    -fno-use-cxa-atexit -c $here/$source.cpp -o $objects/$source.oo
done
# shellcheck disable=SC2086
arm-none-eabi-gcc $common -nostartfiles -specs=nano.specs -Wl,--gc-sections \
  -T $here/mps2.ld -Wl,-Map=$elf.map $objects/*.oo $archive -o $elf

# No heap and no C++ runtime, not even unused.
if arm-none-eabi-nm $elf | grep -E ' (malloc|free|_sbrk|_Znw.*|_Zdl.*|__cxa_guard_acquire)$'; then
  echo "$elf links what it must not" >&2
  exit 1
fi
arm-none-eabi-size -A $elf | awk -v elf=$elf '
  $1 ~ /^\.(text|ARM.exidx|data|bss|lwip|stack)$/ { size[$1] = $2 }
  END { printf "%s: flash %d, ram %d (stack %d of it), lwIP %d bytes\n", elf,
        size[".text"] + size[".ARM.exidx"] + size[".data"],
        size[".data"] + size[".bss"] + size[".stack"], size[".stack"], size[".lwip"] }'
