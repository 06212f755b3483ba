#!/bin/sh
# Builds build/cortex_m/PROGRAM-CPU.elf from a source of this folder (or tests/firmware), and lwIP.
#
#   sh examples/cortex_m/build.sh PROGRAM [CPU] [FLAG...]     CPU: cortex-m3, cortex-m0plus, …
#
# AUTHORITY=FILE.crt adds mbedTLS and the certificate, for client_tls; LINK has words for the linker.
# Debian packages: gcc-arm-none-eabi libnewlib-arm-none-eabi dpkg-dev (openssl for TLS). No libstdc++.
set -eu
cd "$(dirname "$0")/../.."
program=$1 cpu=${2:-cortex-m3}
if [ $# -gt 1 ]; then shift 2; else shift; fi
lwip=$(sh tests/firmware/fetch.sh lwip)/src
here=examples/cortex_m
out=build/cortex_m
objects=$out/objects-$program-$cpu
elf=$out/$program-$cpu.elf
link=${LINK:-}
main=$here/$program.cpp
[ -e "$main" ] || main=tests/firmware/$program.cpp
rm -rf "$objects"
mkdir -p "$objects"
common="-mcpu=$cpu -mthumb -Os -DNDEBUG -ffunction-sections -fdata-sections -I. -I$here -I$objects
  -isystem $here/lwip -isystem $lwip/include $*"
ccache=$(command -v ccache || true)

# archive NAME SOURCE...: C sources of others, compiled as they are.
archive() {
  name=$1
  shift
  for source in "$@"; do
    # shellcheck disable=SC2086  # words are wanted
    $ccache arm-none-eabi-gcc -std=c99 -w $common -c "$source" \
      -o "$objects/$name-$(basename "$source" .c).o"
  done
  arm-none-eabi-ar rcs "$objects/lib$name.a" "$objects/$name"-*.o
}

extra=
if [ -n "${AUTHORITY:-}" ]; then
  mbedtls=$(sh tests/firmware/fetch.sh mbedtls)
  common="$common -isystem $here/mbedtls -isystem $mbedtls/include
    -DMBEDTLS_CONFIG_FILE=<mbedtls_config.h>"
  openssl x509 -in "$AUTHORITY" -outform DER |
    od -An -v -tx1 | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g' >"$objects/authority.inc"
  # shellcheck disable=SC2046
  archive mbedtls $(for name in aes asn1parse asn1write bignum cipher cipher_wrap constant_time \
    ctr_drbg ecdh ecdsa ecp ecp_curves entropy gcm md memory_buffer_alloc oid pk pk_wrap pkparse \
    platform platform_util sha256 ssl_ciphersuites ssl_cli ssl_msg ssl_tls x509 x509_crt; do
    echo "$mbedtls/library/$name.c"
  done)
  extra="$objects/libmbedtls.a"
  link="-Wl,--defsym=RAM_SIZE=64K -Wl,--defsym=STACK_SIZE=8K $link"
fi
case "$*" in
  *-DLWIP_ALTCP_TLS=1*) tls="apps/altcp_tls/altcp_tls_mbedtls apps/altcp_tls/altcp_tls_mbedtls_mem" ;;
  *) tls= ;;
esac
# shellcheck disable=SC2046
archive lwip $(for name in core/init core/def core/inet_chksum core/ip core/mem core/memp \
  core/netif core/pbuf core/tcp core/tcp_in core/tcp_out core/timeouts core/udp core/dns \
  core/altcp core/altcp_alloc core/altcp_tcp core/ipv4/etharp core/ipv4/icmp core/ipv4/ip4 \
  core/ipv4/ip4_addr core/ipv4/ip4_frag netif/ethernet $tls; do
  echo "$lwip/$name.c"
done)

# shellcheck disable=SC2086
for source in $here/startup.cpp $here/semihosting.cpp $here/lwip_port.cpp $main; do
  $ccache arm-none-eabi-gcc -std=c++17 $common -Wall -Wextra -Wshadow -Wconversion \
    -Wsign-conversion -Wno-register -fno-exceptions -fno-rtti -fno-threadsafe-statics \
    -fno-use-cxa-atexit -c "$source" -o "$objects/$(basename "$source" .cpp).oo"
done
# shellcheck disable=SC2086
arm-none-eabi-gcc $common -nostartfiles -specs=nano.specs -Wl,--gc-sections -T $here/mps2.ld \
  -Wl,-Map="$elf.map" $link "$objects"/*.oo $extra "$objects/liblwip.a" $extra -o "$elf"

# No heap and no C++ runtime, not even unused.
if arm-none-eabi-nm "$elf" | grep -E ' (malloc|free|_sbrk|_Znw.*|_Zdl.*|__cxa_guard_acquire)$'; then
  echo "$elf links what it must not" >&2
  exit 1
fi
arm-none-eabi-size -A "$elf" | awk -v elf="$elf" '
  $1 ~ /^\.(text|ARM.exidx|data|bss|lwip|stack)$/ { size[$1] = $2 }
  END { printf "%s: flash %d, ram %d (stack %d of it), lwIP %d bytes\n", elf,
        size[".text"] + size[".ARM.exidx"] + size[".data"],
        size[".data"] + size[".bss"] + size[".stack"], size[".stack"], size[".lwip"] }'
