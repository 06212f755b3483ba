#!/bin/sh
# Firmware on emulated hardware and the embedded ports: prints "ok NAME", "FAIL NAME" or "skip NAME".
#
#   sh tests/firmware/run.sh            everything, two steps at a time (about 5 minutes on 2 cores)
#   sh tests/firmware/run.sh STEP...    the named steps
#
# Debian packages, of which each step names what it misses: gcc-arm-none-eabi
# libnewlib-arm-none-eabi qemu-system-arm dpkg-dev mosquitto mosquitto-clients python3-paho-mqtt
# openssl doctest-dev libmbedtls-dev liblwip-dev pkg-config clang avr-libc gcc-xtensa-lx106
# picolibc-xtensa-lx106-elf gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc
# g++-s390x-linux-gnu qemu-user arduino-builder arduino-core-avr arduino-ctags
set -u
cd "$(dirname "$0")/../.." || exit 2
logs=build/firmware/logs
mkdir -p $logs

# need NAME COMMAND:PACKAGE... or /file:PACKAGE...: false, and a line that says so, if one is missing.
need() {
  name=$1
  shift
  for entry in "$@"; do
    thing=${entry%%:*}
    case $thing in
      /*) [ -e "$thing" ] && continue ;;
      *) command -v "$thing" >/dev/null 2>&1 && continue ;;
    esac
    echo "skip $name: no $thing (Debian: ${entry#*:})"
    return 1
  done
}
need_source() {  # NAME PACKAGE
  sh tests/firmware/fetch.sh "$2" >/dev/null 2>$logs/fetch-"$2".log && return
  echo "skip $1: $(head -n 1 $logs/fetch-"$2".log)"
  return 1
}
python_with_paho() {
  for python in python3 /usr/bin/python3; do
    if $python -c 'import paho.mqtt' 2>/dev/null; then echo $python; return; fi
  done
  echo python3
}

# judged NAME COMMAND...: ok or FAIL by the exit status; the output is kept, its end shown on failure.
judged() {
  name=$1
  shift
  log=$logs/$(echo "$name" | tr -c 'a-zA-Z0-9\n' _).log
  if "$@" >"$log" 2>&1; then
    echo "ok $name$(sed -n 's/^\([0-9]* test cases, [0-9]* checks\) passed.*/ (\1)/p' "$log")"
  else
    echo "FAIL $name"
    tail -n 20 "$log" | sed 's/^/  | /'
  fi
}

arm="arm-none-eabi-gcc:gcc-arm-none-eabi /usr/lib/arm-none-eabi/newlib:libnewlib-arm-none-eabi
  qemu-system-arm:qemu-system-arm"
plain="codec packets properties topics delivery vocabulary protocol"

# --- steps ----------------------------------------------------------------------------------------

# Compilers that ship no C++ library: the header, its codec, client and broker in one program each.
step_gates() {
  warnings="-std=c++17 -Os -fno-exceptions -fno-rtti -Wall -Wextra -Werror -I."
  for program in codec client broker; do
    source=bench/footprint/${program}_main.cpp
    [ $program != client ] || source=tests/firmware/compile_client.cpp
    if need "compile for AVR: $program" clang++:clang /usr/lib/avr/include/avr/io.h:avr-libc; then
      # shellcheck disable=SC2086  # words are wanted
      judged "compile for AVR: $program" clang++ --target=avr -mmcu=atmega2560 $warnings \
        -isystem /usr/lib/avr/include -c $source -o $logs/avr.o
    fi
    if need "compile for ESP8266: $program" xtensa-lx106-elf-g++:gcc-xtensa-lx106 \
      /usr/lib/xtensa-lx106-elf/include:picolibc-xtensa-lx106-elf; then
      # shellcheck disable=SC2086
      judged "compile for ESP8266: $program" xtensa-lx106-elf-g++ $warnings \
        -isystem /usr/lib/xtensa-lx106-elf/include -c $source -o $logs/xtensa.o
    fi
    if need "compile for RISC-V: $program" riscv64-unknown-elf-g++:gcc-riscv64-unknown-elf; then
      # shellcheck disable=SC2086
      judged "compile for RISC-V: $program" riscv64-unknown-elf-g++ -march=rv32imc -mabi=ilp32 \
        $warnings -specs=picolibc.specs -c $source -o $logs/riscv.o
    fi
  done
}

# shellcheck disable=SC2086
step_sections_m3() {
  need "sections on a Cortex-M3" $arm || return
  judged "sections 2 to 9 on a Cortex-M3" sh tests/firmware/sections.sh cortex-m3 $plain
  judged "client on a Cortex-M3" sh tests/firmware/sections.sh cortex-m3 client client_script
  judged "broker on a Cortex-M3" sh tests/firmware/sections.sh cortex-m3 broker_connect \
    broker_session broker_will broker_subscribe broker_shared broker_retained
}
# shellcheck disable=SC2086
step_sections_m0() {
  need "sections on a Cortex-M0+" $arm || return
  judged "sections 3 to 9 on a Cortex-M0 with 16 KB of RAM" \
    sh tests/firmware/sections.sh microbit packets properties delivery protocol
  judged "sections 2 to 9, client and broker on a Cortex-M0+" \
    sh tests/firmware/sections.sh cortex-m0plus $plain client broker_connect broker_session
}
# shellcheck disable=SC2086
step_sections_rv32() {
  need "sections on rv32imc" riscv64-unknown-elf-gcc:gcc-riscv64-unknown-elf \
    /usr/lib/picolibc/riscv64-unknown-elf:picolibc-riscv64-unknown-elf \
    qemu-system-riscv32:qemu-system-misc || return
  judged "sections 2 to 9, client and broker on rv32imc" \
    sh tests/firmware/sections.sh rv32imc $plain client broker_connect broker_session
}
# shellcheck disable=SC2086
step_sections_s390x() {
  need "sections on big-endian s390x" s390x-linux-gnu-g++:g++-s390x-linux-gnu \
    qemu-s390x:qemu-user /usr/include/doctest/doctest.h:doctest-dev || return
  judged "sections 2 to 9, client and broker on big-endian s390x" \
    sh tests/firmware/sections.sh s390x $plain client client_script broker_connect \
    broker_session broker_will broker_subscribe
}

step_lwip() {
  need "ports/lwip on the host" gcc:gcc /usr/include/doctest/doctest.h:doctest-dev &&
    need_source "ports/lwip on the host" lwip || return
  judged "ports/lwip on a lossy wire, under the sanitizers" sh tests/firmware/lwip_host.sh
}

# build NAME FILE SOURCE WORD...: a doctest program.
build() {
  file=$1 source=$2
  shift 2
  # shellcheck disable=SC2046
  g++ -std=c++17 -g1 -O0 -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -I. \
    tests/doctest_main.cpp "$source" -o "$logs/$file" "$@"
}
core_lock() {
  # shellcheck disable=SC2046
  build core_lock tests/firmware/core_lock_test.cpp \
    $(pkg-config --cflags lwip | sed 's/-I/-isystem /g') $(pkg-config --libs lwip) -lpthread &&
    timeout 60 $logs/core_lock --no-colors
}
step_core_lock() {
  need "ports/lwip with threads" /usr/include/lwip/lwip/opt.h:liblwip-dev pkg-config:pkg-config \
    /usr/include/doctest/doctest.h:doctest-dev || return
  judged "ports/lwip with threads holds the core lock" core_lock
}

mbedtls() {
  sh tests/firmware/certificates.sh build/firmware/certificates &&
    build mbedtls tests/firmware/mbedtls_test.cpp -fsanitize=address,undefined \
      '-DCERTIFICATES="build/firmware/certificates"' -lmbedtls -lmbedx509 -lmbedcrypto &&
    timeout 120 $logs/mbedtls --no-colors
}
step_mbedtls() {
  need "ports/tls/mbedtls.hpp on the host" openssl:openssl \
    /usr/include/mbedtls/ssl.h:libmbedtls-dev /usr/include/doctest/doctest.h:doctest-dev || return
  judged "ports/tls/mbedtls.hpp on the host" mbedtls
}

images() {
  sh examples/cortex_m/build.sh broker && sh examples/cortex_m/build.sh client
}
tls_images() {
  sh tests/firmware/certificates.sh build/firmware/certificates &&
    AUTHORITY=build/firmware/certificates/authority.crt sh examples/cortex_m/build.sh client_tls &&
    AUTHORITY=build/firmware/certificates/authority.crt LINK=-Wl,--defsym=LWIP_SIZE=128K \
      sh examples/cortex_m/build.sh client_altcp cortex-m3 -DLWIP_ALTCP=1 -DLWIP_ALTCP_TLS=1 \
      -DLWIP_ALTCP_TLS_MBEDTLS=1 -DLWIP_DNS=1 -DDNS_LOCAL_HOSTLIST=1 \
      -DDNS_LOCAL_HOSTLIST_IS_DYNAMIC=1 -DMEM_SIZE=52000 -DTCP_WND=4352
}
step_board() {
  # shellcheck disable=SC2086
  need "firmware" $arm openssl:openssl && need_source firmware lwip &&
    need_source firmware mbedtls || return
  judged "broker and client firmware link without heap and C++ library" images
  judged "TLS client firmware links without heap and C++ library" tls_images
  $(python_with_paho) tests/firmware/broker_test.py build/cortex_m/broker-cortex-m3.elf
  $(python_with_paho) tests/firmware/client_test.py build/cortex_m build/firmware/certificates
}

step_arduino() { sh tests/firmware/arduino.sh; }
step_sizes() { sh bench/footprint/targets.sh check; }

# --- running --------------------------------------------------------------------------------------

# Two lanes of about the same length; a step's output comes whole when it is over.
first_lane="board arduino gates sections_m0"
second_lane="lwip sections_s390x sections_m3 sections_rv32 core_lock mbedtls sizes"

run_steps() {
  for step in "$@"; do
    case $(command -v "step_$step") in
      "") echo "no step $step; there are: $first_lane $second_lane" >&2; exit 2 ;;
    esac
    start=$(date +%s)
    "step_$step" >$logs/step_"$step" 2>&1 </dev/null
    cat $logs/step_"$step"
    echo "$step took $(($(date +%s) - start)) s"
  done
}

if [ $# -gt 0 ]; then
  run_steps "$@"
  ran=$*
else
  # shellcheck disable=SC2086
  run_steps $second_lane &
  # shellcheck disable=SC2086
  run_steps $first_lane
  wait
  ran="$first_lane $second_lane"
fi
status=0
for step in $ran; do
  grep -q '^FAIL ' $logs/step_"$step" && status=1
  grep -qE '^(ok|FAIL|skip) ' $logs/step_"$step" || { echo "FAIL step $step says nothing"; status=1; }
done
exit $status
